"""Training state to and from arrays: weights, optimizer, recurrent state, counters.

The state of a random-number generator is not needed: the random numbers of a step
depend on (seed, step) alone, see `dsc.noise`.
"""

import dataclasses
import json
from typing import Any

import keras
import numpy as np

READ_EVERY = 100  # steps between two reads of the metrics from the device


class NotFinite(Exception):
    """A loss, gradient norm or weight became NaN or infinite."""

    def __init__(self, what, value, step):
        super().__init__(what, value, step)
        self.what = what
        self.value = value
        self.step = step


class Means:
    """Means of the metrics since the last report.

    A read waits for the device, so it happens every `READ_EVERY` steps. Values are
    summed in float64, step by step, so the means do not depend on when they are read.
    """

    def __init__(self, n=0, sums=None):
        self.n = n
        self.sums = sums or {}
        self._unread = []

    def add(self, step, metrics):
        """Adds the metrics of a step, a dict of tensors."""
        self._unread.append((step, metrics))
        if len(self._unread) == READ_EVERY:
            self.read()

    def read(self):
        """Reads all metrics from the device.

        Raises:
            NotFinite: the loss or the gradient norm of a step is NaN or infinite.
        """
        unread, self._unread = self._unread, []
        for step, metrics in unread:
            values = {k: np.asarray(v).astype(np.float64) for k, v in metrics.items()}
            for name in ("loss", "grad_norm"):
                if not np.isfinite(values[name]):
                    what = name.replace("grad_", "gradient ")
                    raise NotFinite(what, values[name], step)
            for name, value in values.items():
                self.sums[name] = self.sums.get(name, 0.0) + value
            self.n += 1

    def so_far(self):
        """The means, a dict of arrays."""
        self.read()
        return {name: total / self.n for name, total in self.sums.items()}

    def take(self):
        """Returns the means and starts over."""
        means = self.so_far()
        self.n, self.sums = 0, {}
        return means


@dataclasses.dataclass
class State:
    """Progress of a training; weights and optimizer variables belong to its task.

    Attributes:
        recurrent: the recurrent state, a structure of tensors.
        means: `Means` since the last report.
        epochs: number of finished epochs.
        position: number of finished batches of the current epoch.
        step: number of finished training steps.
        best_score: score of the best weights, or None.
        best_weights: file name of the best weights, or None.
        stop_reason: why the task ended the training, or None.
        truncated: whether --max_steps ended the last epoch before its last batch.
        seconds: of training and evaluation up to the last save, over all processes.
    """

    recurrent: Any
    means: Means = dataclasses.field(default_factory=Means)
    epochs: int = 0
    position: int = 0
    step: int = 0
    best_score: Any = None
    best_weights: str | None = None
    stop_reason: str | None = None
    truncated: bool = False
    seconds: float = 0.0

    def why_finished(self, max_epochs, max_steps):
        """Why the training is finished, evaluation included; None if it is not."""
        if self.stop_reason is not None or self.position > 0:
            return self.stop_reason
        if self.step == max_steps:
            return f"--max_steps {max_steps} reached"
        return (
            f"--max_epochs {max_epochs} reached" if self.epochs >= max_epochs else None
        )


# The fields of `State` that a file keeps as JSON, and those that it keeps as arrays.
NO_COUNTERS = ("recurrent", "means", "seconds")
COUNTERS = [f.name for f in dataclasses.fields(State) if f.name not in NO_COUNTERS]


def to_arrays(state, task, metrics_mark):
    """The state of a training as a dict of arrays.

    Two runs of one command give the same arrays, except for `seconds`. The mark is that
    of `RunFolder.metrics_mark`.

    Raises:
        NotFinite: a weight or another number is NaN or infinite.
    """
    arrays = _tensors(state.recurrent, task)
    for name, value in arrays.items():
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise NotFinite(f"state ({name})", "not finite", state.step - 1)
    arrays |= {f"mean/{name}": total for name, total in state.means.sums.items()}
    counts = {name: getattr(state, name) for name in COUNTERS}
    counts |= {"n_means": state.means.n, "metrics": metrics_mark}
    counts |= {"schedule": task.schedule_state()}
    arrays["counts"] = np.frombuffer(json.dumps(counts).encode(), np.uint8)
    arrays["seconds"] = np.float64(state.seconds)
    return arrays


def from_arrays(arrays, task):
    """`(State, metrics mark)` from what `to_arrays` returned; changes no variable.

    Raises:
        ValueError: the arrays do not fit the task, or another version wrote them.
    """
    counts = _read_counts(arrays)
    sums = {k[len("mean/") :]: v for k, v in arrays.items() if k.startswith("mean/")}
    own = {"counts", "seconds", *(f"mean/{name}" for name in sums)}
    initial = task.initial_state()
    expected = _tensors(initial, task)
    if _spec(arrays, arrays.keys() - own) != _spec(expected, expected):
        raise ValueError("its arrays are not those of this model")
    if counts["schedule"].keys() != task.schedule_state().keys():
        raise ValueError("its schedule is not that of this task")
    recurrent = [
        keras.ops.cast(arrays[f"recurrent/{i}"], part.dtype)
        for i, part in enumerate(_flat(initial))
    ]
    state = State(
        recurrent=keras.tree.pack_sequence_as(initial, recurrent),
        means=Means(counts["n_means"], sums),
        seconds=float(arrays["seconds"]),
        **{name: counts[name] for name in COUNTERS},
    )
    return state, counts["metrics"]


def restore(arrays, task):
    """Assigns weights, optimizer variables and schedule that `from_arrays` accepted."""
    for name, variable in _variables(task).items():
        variable.assign(arrays[name])
    task.restore_schedule(_read_counts(arrays)["schedule"])


def _read_counts(arrays):
    counts = json.loads(arrays["counts"].tobytes()) if "seconds" in arrays else {}
    if counts.keys() != {*COUNTERS, "n_means", "metrics", "schedule"}:
        raise ValueError("another version of this program has written it")
    counts["best_score"] = _tuples(counts["best_score"])
    counts["schedule"] = {k: _tuples(v) for k, v in counts["schedule"].items()}
    return counts


def _tuples(value):
    return tuple(value) if isinstance(value, list) else value


def _variables(task):
    """The task's variables by their names in a file."""
    task.optimizer.build(task.model.trainable_variables)
    groups = {"weight": task.model.weights, "optimizer": task.optimizer.variables}
    return {
        f"{group}/{i}": variable
        for group, variables in groups.items()
        for i, variable in enumerate(variables)
    }


def _flat(recurrent):
    return [keras.ops.convert_to_tensor(p) for p in keras.tree.flatten(recurrent)]


def _tensors(recurrent, task):
    """Variables and recurrent state as arrays, by their names in a file."""
    values = {name: variable.numpy() for name, variable in _variables(task).items()}
    values |= {f"recurrent/{i}": np.asarray(p) for i, p in enumerate(_flat(recurrent))}
    # A .npz file cannot hold bfloat16; float32 represents it exactly.
    return {
        name: value.astype(np.float32) if value.dtype.kind == "V" else value
        for name, value in values.items()
    }


def _spec(arrays, names):
    return {name: (arrays[name].shape, arrays[name].dtype) for name in names}

"""All that a training is at one moment, as arrays, so that it can go on from there.

Randomness is not part of it: a step's random numbers depend on (seed, step) alone, see
`dsc.noise`.
"""

import dataclasses
import json
from typing import Any

import keras
import numpy as np

READ_EVERY = 100  # steps whose metrics may wait on the device to be read


class Means:
    """Means of the metrics since the last report.

    Values are added up in float64, step by step, so it does not matter when they are
    read back from the device, which must not be every step.
    """

    def __init__(self, n=0, sums=None):
        self.n = n
        self.sums = sums or {}
        self._unread = []

    def add(self, step, metrics):
        """Takes in the metrics of a step, a dict of tensors."""
        self._unread.append((step, metrics))
        if len(self._unread) == READ_EVERY:
            self.read()

    def read(self):
        """Reads back what waits.

        Raises:
            NotFinite: the loss or the gradient of a step was no number.
        """
        unread, self._unread = self._unread, []
        for step, metrics in unread:
            values = {k: np.asarray(v).astype(np.float64) for k, v in metrics.items()}
            for name in ("loss", "grad_norm"):
                if not np.isfinite(values[name]):
                    raise NotFinite(name, values[name], step)
            for name, value in values.items():
                self.sums[name] = self.sums.get(name, 0.0) + value
            self.n += 1

    def so_far(self):
        """The means, a dict of arrays."""
        self.read()
        return {name: total / self.n for name, total in self.sums.items()}

    def take(self):
        """The means, of which the next ones begin anew."""
        means = self.so_far()
        self.n, self.sums = 0, {}
        return means


class NotFinite(Exception):
    """Training has left the numbers: what, its value, and in which step."""

    def __init__(self, what, value, step):
        super().__init__(what, value, step)
        self.what = {"loss": "loss", "grad_norm": "gradient norm"}.get(what, what)
        self.value = value
        self.step = step


# What a state file keeps of a `State` beside its arrays.
COUNTS = (
    "epochs",
    "position",
    "step",
    "best_score",
    "best_weights",
    "stop_reason",
    "truncated",
    "seconds",
)


@dataclasses.dataclass
class State:
    """Where a training stands, but for the weights and the optimizer's variables.

    Attributes:
        recurrent: the recurrent state, a structure of tensors.
        means: `Means` since the last report.
        epochs: number of epochs that are done.
        position: number of batches of the current epoch that are done.
        step: number of training steps that are done.
        best_score: of the best weights; None if there are none yet.
        best_weights: name of their file.
        stop_reason: why the task ended the training, or None.
        truncated: whether --max_steps ended the last epoch before its last batch.
        seconds: of training and evaluation until the last save, over all processes.
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
        """Why nothing is left to do, not even the evaluation of an epoch, or None."""
        if self.stop_reason is not None or self.position > 0:
            return self.stop_reason
        if self.step == max_steps:
            return f"--max_steps {max_steps} reached"
        return (
            f"--max_epochs {max_epochs} reached" if self.epochs >= max_epochs else None
        )

    def summary(self, max_epochs, max_steps):
        """What `result.json` says of a training that has ended, but for its scores."""
        best = self.best_weights  # best-<epochs>-...
        return {
            "best_epoch": None if best is None else int(best.split("-")[1]),
            "epochs": self.epochs,
            "steps": self.step,
            "stop_reason": self.why_finished(max_epochs, max_steps),
            "seconds": self.seconds,
        }


def to_arrays(state, task, metrics_mark):
    """Everything as a dict of arrays.

    Args:
        state: `State`, whose means are read.
        task: `dsc.training.task.Task`, whose optimizer is built.
        metrics_mark: of `RunFolder.metrics_mark`.

    Raises:
        NotFinite: a weight, or another of the numbers, is none.
    """
    arrays = _arrays(state.recurrent, task)
    for name, value in arrays.items():
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise NotFinite(f"state ({name})", "not finite", state.step - 1)
    arrays |= {f"mean/{name}": total for name, total in state.means.sums.items()}
    counts = {name: getattr(state, name) for name in COUNTS}
    counts |= {"n_means": state.means.n, "metrics": metrics_mark}
    counts |= {"schedule": task.schedule_state()}
    arrays["counts"] = np.frombuffer(json.dumps(counts).encode(), np.uint8)
    return arrays


def from_arrays(arrays, task):
    """The state in `arrays`, and its metrics mark; the task stays as it is.

    Raises:
        ValueError: they are not the state of such a task.
    """
    counts = _counts(arrays)
    sums = {k[len("mean/") :]: v for k, v in arrays.items() if k.startswith("mean/")}
    others = {k: v for k, v in arrays.items() if k != "counts" and k[:5] != "mean/"}
    if _spec(others) != _spec(_arrays(task.initial_state(), task)):
        raise ValueError("its arrays are not those of this model")
    if counts["schedule"].keys() != task.schedule_state().keys():
        raise ValueError("its schedule is not that of this task")
    recurrent = [
        keras.ops.cast(others[f"recurrent/{i}"], part.dtype)
        for i, part in enumerate(_recurrent_parts(task.initial_state()))
    ]
    state = State(
        recurrent=keras.tree.pack_sequence_as(task.initial_state(), recurrent),
        means=Means(counts["n_means"], sums),
        **{name: counts[name] for name in COUNTS},
    )
    return state, counts["metrics"]


def restore(arrays, task):
    """Brings a task to where it was; `from_arrays` has to accept the arrays first."""
    for name, variable in _variables(task).items():
        variable.assign(arrays[name])
    task.restore_schedule(_counts(arrays)["schedule"])


def _counts(arrays):
    """What is no array: counts, scores, schedule.

    Raises:
        ValueError: another version of this program has written them.
    """
    counts = json.loads(arrays["counts"].tobytes())
    if counts.keys() != {*COUNTS, "n_means", "metrics", "schedule"}:
        raise ValueError("another version of this program has written it")
    counts["best_score"] = _tuples(counts["best_score"])
    counts["schedule"] = {k: _tuples(v) for k, v in counts["schedule"].items()}
    return counts


def _tuples(value):
    return tuple(value) if isinstance(value, list) else value


def _variables(task):
    task.optimizer.build(task.model.trainable_variables)
    groups = {"weight": task.model.weights, "optimizer": task.optimizer.variables}
    return {
        f"{group}/{i}": variable
        for group, variables in groups.items()
        for i, variable in enumerate(variables)
    }


def _recurrent_parts(recurrent):
    return [keras.ops.convert_to_tensor(p) for p in keras.tree.flatten(recurrent)]


def _arrays(recurrent, task):
    values = {name: variable.numpy() for name, variable in _variables(task).items()}
    for i, part in enumerate(_recurrent_parts(recurrent)):
        values[f"recurrent/{i}"] = np.asarray(part)
    # A .npz file keeps no bfloat16; float32 holds it exactly.
    return {
        name: value.astype(np.float32) if value.dtype.kind == "V" else value
        for name, value in values.items()
    }


def _spec(arrays):
    return {name: (value.shape, value.dtype) for name, value in arrays.items()}

"""The newest states of a run and its best weights, each with its checksum.

    last/state-<epochs>-<step>-<digest>.npz
    best/best-<epochs>-<step>-<digest>.weights.h5

The digest in a name is that of the file's content, so a damaged file is known before
it is opened. Of the states the newest `KEPT` stay, of the weights those that were the
best when one of these states was saved: each state can be gone on from.
"""

import re
from pathlib import Path

import numpy as np

from dsc.cli.errors import RunError, one_line, writing
from dsc.runs import atomic_io

KEPT = 3
# Names of the files that are ours: a user may keep others beside them.
STATE = r"state-\d+-\d+-\w+\.npz"
BEST = r"best-\d+-\d+-\w+\.weights\.h5"


class Checkpoints:
    """States and best weights in the folder of a run.

    Args:
        path: the run's folder.
    """

    def __init__(self, path):
        self.path = Path(path)
        self.last = self.path / "last"
        self.best = self.path / "best"

    def save_state(self, epochs, step, arrays):
        """Keeps a state, and removes what no longer counts.

        Args:
            epochs: number of epochs that are done.
            step: number of training steps that are done.
            arrays: dict from name to array.

        Returns:
            The state's path.
        """
        name = f"state-{_step_key(epochs, step)}.npz"
        path = self._write(self.last / name, lambda aside: np.savez(aside, **arrays))
        with writing(self.path):
            self._prune(path)
        return path

    def states(self, skip=lambda path, reason: None):
        """Yields `(path, arrays)` of the states that are whole, the newest first.

        Args:
            skip: function of the path and the reason, told of those that are not.
        """
        for path in reversed(_sorted(self.last, STATE)):
            try:
                if not atomic_io.is_intact(path):
                    raise ValueError("its checksum is wrong")
                yield path, atomic_io.read_arrays(path)
            except (OSError, ValueError) as error:
                skip(path, one_line(error))

    def n_states(self):
        """How many states there are, damaged ones included."""
        return len(_sorted(self.last, STATE))

    def save_weights(self, model, epochs, step):
        """Keeps a model's weights as the best; returns the file's name."""
        name = f"best-{_step_key(epochs, step)}.weights.h5"
        return self._write(self.best / name, model.save_weights).name

    def has_weights(self, name):
        """Whether the best weights of that name are there and whole."""
        return atomic_io.is_intact(self.best / name)

    def best_weights(self):
        """The path of the newest best weights, or None."""
        return next(reversed(_sorted(self.best, BEST)), None)

    def load_weights(self, model):
        """Loads the best weights into a built model of the same sizes.

        Raises:
            RunError: there are none, or the file is damaged or belongs to a model of
                other sizes.
        """
        path = self.best_weights()
        if path is None:
            raise RunError(
                f"The run in {self.path} has no weights (none in {self.best}): no "
                "epoch has ended with a score on validation that is a number; train "
                "on, or begin anew with --restart and a lower --learning_rate."
            )
        try:
            if not atomic_io.is_intact(path):
                raise ValueError("its checksum is wrong")
            model.load_weights(path)
        except Exception as error:  # h5py raises many kinds for damaged files
            raise RunError(
                f"--load_model: {path} does not fit this model or is damaged, and the "
                f"run must be trained again ({one_line(error)})."
            ) from None

    def _write(self, path, content):
        with writing(self.path):
            path.parent.mkdir(exist_ok=True)
            return atomic_io.write(path, content, digest=True)

    def _prune(self, newest):
        """Keeps the newest states up to this one, and the best weights of each.

        Later ones were passed over as damaged, or belong to an end that was taken back.
        """
        states = _sorted(self.last, STATE)
        kept = [path for path in states if step_key(path) <= step_key(newest)][-KEPT:]
        weights = _sorted(self.best, BEST)
        needed = set()
        for state in kept:
            earlier = [path for path in weights if step_key(path) <= step_key(state)]
            needed.update(earlier[-1:])
        for path in {*states, *weights} - {*kept, *needed}:
            path.unlink()


def _step_key(epochs, step):
    return f"{epochs:06}-{step:012}"


def step_key(path):
    """What a file was saved after: `<epochs>-<step>`, which sorts as the numbers."""
    return "-".join(path.name.split("-")[1:3])


def _sorted(folder, pattern):
    paths = (path for path in folder.glob("*") if re.fullmatch(pattern, path.name))
    return sorted(paths, key=lambda path: (step_key(path), path.name))

"""The newest states of a run and its best weights, in files with checksums.

    last/state-<epochs>-<step>-<digest>.npz
    best/best-<epochs>-<step>-<digest>.weights.h5

The newest `KEPT` states are kept, and with each the weights that were the best when it
was saved, so that training can be resumed from any of them.
"""

import re
from pathlib import Path

import numpy as np

from dsc.cli.errors import RunError, one_line, writing
from dsc.runs import atomic_io

KEPT = 3
# A user may keep files with other names in the same folders.
STATE = r"state-\d+-\d+-\w+\.npz"
BEST = r"best-\d+-\d+-\w+\.weights\.h5"


class Checkpoints:
    """States and best weights of a run.

    Args:
        path: the run's folder.
    """

    def __init__(self, path):
        self.path = Path(path)
        self.last = self.path / "last"
        self.best = self.path / "best"

    def save_state(self, epochs, step, arrays):
        """Saves a state and removes the files that are no longer needed.

        Args:
            epochs: number of finished epochs.
            step: number of finished training steps.
            arrays: dict from name to array.

        Returns:
            The state's path.
        """
        name = f"state-{epochs:06}-{step:012}.npz"
        path = self._write(self.last / name, lambda tmp: np.savez(tmp, **arrays))
        with writing(self.path):
            self._prune(path)
        return path

    def states(self, skip=lambda path, reason: None):
        """Yields `(path, arrays)` of the undamaged states, the newest first.

        Args:
            skip: called with the path of each damaged state and the reason.
        """
        for path in reversed(_sorted(self.last, STATE)):
            try:
                if not atomic_io.is_intact(path):
                    raise ValueError("its checksum is wrong")
                yield path, atomic_io.read_arrays(path)
            except (OSError, ValueError) as error:
                skip(path, one_line(error))

    def n_states(self):
        """The number of states, damaged ones included."""
        return len(_sorted(self.last, STATE))

    def save_weights(self, model, epochs, step):
        """Saves a model's weights as the best; returns the file's name."""
        name = f"best-{epochs:06}-{step:012}.weights.h5"
        return self._write(self.best / name, model.save_weights).name

    def best_weights(self):
        """The path of the newest best weights.

        Raises:
            RunError: there are none.
        """
        if paths := _sorted(self.best, BEST):
            return paths[-1]
        raise RunError(
            f"The run in {self.path} has no weights (none in {self.best}): no epoch "
            "has ended with a validation score that is a number. Continue training, or "
            "start over with --restart and a lower --learning_rate."
        )

    def load_weights(self, model):
        """Loads the best weights into a built model.

        Raises:
            RunError: there are none, they are damaged, or they do not fit the model.
        """
        path = self.best_weights()
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
        """Removes old states, damaged states after the newest, and unused weights."""
        states = _sorted(self.last, STATE)
        kept = [path for path in states if step_key(path) <= step_key(newest)][-KEPT:]
        weights = _sorted(self.best, BEST)
        needed = set()
        for state in kept:
            earlier = [path for path in weights if step_key(path) <= step_key(state)]
            needed.update(earlier[-1:])
        for path in {*states, *weights} - {*kept, *needed}:
            path.unlink()


def step_key(path):
    """`<epochs>-<step>` of a file's name; keys sort as the numbers do."""
    return "-".join(path.name.split("-")[1:3])


def _sorted(folder, pattern):
    paths = (path for path in folder.glob("*") if re.fullmatch(pattern, path.name))
    return sorted(paths, key=lambda path: (step_key(path), path.name))

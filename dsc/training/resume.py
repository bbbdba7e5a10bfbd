"""Resuming a training from its newest usable state, and saving states."""

import contextlib
import time

from dsc.cli.errors import RunError
from dsc.cli.signals import Interrupted
from dsc.distributed.coordination import newest_common, vote_on_save
from dsc.runs import atomic_io
from dsc.runs.checkpoints import step_key
from dsc.runs.train_state import NotFinite, State, from_arrays, restore, to_arrays


def resume(task, folder, max_steps):
    """Restores the newest state that is usable on all workers.

    The metrics in the folder are cut back to the state. Without a state the task stays
    as it is.

    Returns:
        `(State, its path)`; the path is None at the start of a run.

    Raises:
        RunError: there are states but none is usable, or a worker has lost its states.
    """
    skipped = []

    def skip(path, reason):
        skipped.append(path)
        print(f"Skipping the state {path}: {reason}.", flush=True)

    found = newest_common(
        task.distribution,
        _usable_states(task, folder, max_steps, skip),
        folder.checkpoints.n_states(),
    )
    if found:
        _, (state, path, arrays, metrics_mark) = found
        folder.rewind_metrics(metrics_mark)
        restore(arrays, task)
        print(f"Going on after step {state.step}, from {path}.", flush=True)
        return state, path
    if skipped:
        raise RunError(
            f"No usable checkpoint in {folder.checkpoints.last}. Restore the damaged "
            "files, or start over with --restart (the old run is moved away)."
        )
    folder.rewind_metrics()
    return State(task.initial_state()), None


def _usable_states(task, folder, max_steps, skip):
    """Yields `(step key, (State, path, arrays, metrics mark))`, newest first.

    Changes nothing in the folder: other workers may lack the states yielded here.
    """
    for path, arrays in folder.checkpoints.states(skip):
        try:
            state, metrics_mark = from_arrays(arrays, task)
            if state.truncated and state.step != max_steps:
                continue  # a longer run resumes before the end of the truncated epoch
            best = state.best_weights
            if best and not atomic_io.is_intact(folder.checkpoints.best / best):
                raise ValueError(f"its best weights, {best}, are missing or damaged")
            folder.metrics_before(metrics_mark)
        except ValueError as error:
            skip(path, str(error))
            continue
        yield step_key(path), (state, path, arrays, metrics_mark)


class Saver:
    """Saves the `State` of a training every so many seconds and on signals.

    `path` is that of the last state saved, or None.
    """

    def __init__(self, task, folder, state, path, every):
        self.task = task
        self.folder = folder
        self.state = state
        self.path = path
        self.every = every
        self.time = time.monotonic()
        self.start = self.time - state.seconds

    def poll(self, must_save=False):
        """Saves the state if it must, if the last one is old enough or on a signal.

        Raises:
            Interrupted: this worker or another one got a signal; all have saved.
            NotFinite: see `to_arrays` and `Means.read`; nothing was saved.
            RunError: the folder cannot be written.
        """
        due = must_save or time.monotonic() - self.time >= self.every
        due, number = vote_on_save(
            self.task.distribution, due, self.state.step, must_save
        )
        if due or number is not None:
            self.save()
        if number is not None:
            raise Interrupted(number)

    def save(self):
        """Saves the state; see `poll` for the errors."""
        self.state.means.read()
        self.state.seconds = time.monotonic() - self.start
        arrays = to_arrays(self.state, self.task, self.folder.metrics_mark())
        self.path = self.folder.checkpoints.save_state(
            self.state.epochs, self.state.step, arrays
        )
        self.time = time.monotonic()

    @contextlib.contextmanager
    def explain_divergence(self):
        """Turns `NotFinite` inside into a `RunError` that says what to do."""
        try:
            yield
        except NotFinite as error:
            remedy = "rl_weight" if self.task.max_grad_norm is None else "max_grad_norm"
            raise RunError(
                f"The {error.what} of step {error.step + 1} is {error.value}: training "
                "has diverged, and nothing since then was saved. The last good state "
                f"is {self.path or 'the beginning'}. Start over with --restart and a "
                f"lower --learning_rate or --{remedy}."
            ) from None

"""A training's states: saved while it runs, found again by the next process."""

import contextlib
import time

from dsc.cli.errors import RunError
from dsc.cli.signals import Interrupted
from dsc.distributed.coordination import SaveCoordinator, newest_common
from dsc.runs.checkpoints import step_key
from dsc.runs.train_state import NotFinite, State, from_arrays, restore, to_arrays


def resume(task, folder, max_steps):
    """Brings a task to the newest state from which a run can go on, on all workers.

    Args:
        task: `dsc.training.task.Task`; if there is no such state it stays as it is.
        folder: `dsc.runs.folder.RunFolder`; its metrics are cut back to the state.
        max_steps: where the run is to end now, or None.

    Returns:
        `(State, its path)`; the path is None at the beginning of a run.

    Raises:
        RunError: there are states, but each is damaged, or what it needs is; or other
            workers have states and this one has not.
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
            f"None of the states in {folder.checkpoints.last} can be gone on from: put "
            "back what was damaged, or begin anew with --restart, which moves this run "
            "aside."
        )
    folder.rewind_metrics()
    return State(task.initial_state()), None


def _usable_states(task, folder, max_steps, skip):
    """Yields `(label, (State, path, arrays, metrics mark))`, newest first.

    Changes nothing in the folder: other workers may lack the states yielded here.
    """
    for path, arrays in folder.checkpoints.states(skip):
        try:
            state, metrics_mark = from_arrays(arrays, task)
            if state.truncated and state.step != max_steps:
                continue  # a longer run ends its epoch later: the state before will do
            best = state.best_weights
            if best and not folder.checkpoints.has_weights(best):
                raise ValueError(f"its best weights, {best}, are missing or damaged")
            folder.metrics_before(metrics_mark)
        except ValueError as error:
            skip(path, str(error))
            continue
        yield step_key(path), (state, path, arrays, metrics_mark)


class Saver:
    """Saves the state of a training, every so many seconds or when told to.

    Args:
        task: `dsc.training.task.Task`.
        folder: `dsc.runs.folder.RunFolder`.
        state: `State`, the training's.
        path: of the last state saved, or None.
        every: seconds between states.
    """

    def __init__(self, task, folder, state, path, every):
        self.task = task
        self.folder = folder
        self.state = state
        self.path = path
        self.every = every
        self.coordinator = SaveCoordinator(task.distribution)
        self.time = time.monotonic()
        self.start = self.time - state.seconds

    def poll(self, must_save=False):
        """Saves the state if the last one is old enough or a signal came.

        Args:
            must_save: whether to save in any case.

        Raises:
            Interrupted: this worker or another one was told to end; all have saved.
            NotFinite: there is something in the state, or happened since the last save,
                that must not be saved.
            RunError: the folder cannot be written.
        """
        due = must_save or time.monotonic() - self.time >= self.every
        due, number = self.coordinator.vote(due, self.state.step, must_save)
        if due or number is not None:
            self._save()
        if number is not None:
            raise Interrupted(number)

    def _save(self):
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
                f"is {self.path or 'the beginning'}. Begin anew with --restart and a "
                f"lower --learning_rate or --{remedy}."
            ) from None

"""The training loop: epochs, reports, checkpoints. Without TensorFlow."""

import numpy as np

from dsc.cli import signals
from dsc.runs.train_state import Means
from dsc.training.report import Report
from dsc.training.resume import Saver, resume


def fit(task, folder, max_epochs, print_every, max_steps=None, save_every=60.0):
    """Trains, or resumes training from the newest state in the folder.

    An interrupted and resumed training computes the same weights and metrics as one in
    one piece.

    Args:
        task: `dsc.training.task.Task`, or an object with its attributes and methods;
            `batch` and `loss` are needed by `Task.train` only.
        folder: `dsc.runs.folder.RunFolder`.
        max_epochs: whole number.
        print_every: steps between reports.
        max_steps: step after which training (and its epoch) ends, or None.
        save_every: seconds between states; one is also saved at the end of each epoch.

    Returns:
        The `dsc.runs.train_state.State` at the end.

    Raises:
        RunError: the folder cannot be written, or training has diverged.
        Interrupted: a signal; the state is saved.
    """
    with task.distribution.scope():
        task.optimizer.build(task.model.trainable_variables)
    state, path = resume(task, folder, max_steps)
    if state.why_finished(max_epochs, max_steps):
        print(f"The run in {folder.path} is finished.", flush=True)
        return state
    saver = Saver(task, folder, state, path, save_every)
    report = Report(task, state, max_epochs, print_every)
    show = task.open_log(folder)
    with (
        saver.explain_divergence(),
        task.distribution.translate_worker_loss(),
        signals.polled(),
    ):
        while not state.why_finished(max_epochs, max_steps):
            report.begin_epoch()
            with report.bar:
                while state.position < task.n_batches and state.step != max_steps:
                    state.means.add(state.step, task.train(state))
                    state.position += 1
                    state.step += 1
                    if record := report.after_step():
                        folder.log(record)
                        show(record | {f"{task.unit}_per_second": report.speed})
                    saver.poll()
            saver.poll(must_save=True)
            scores, score = task.distribution.run_on_chief(task.evaluate)
            show(end_epoch(task, folder, state, scores, score, report.end_epoch))
            saver.poll(must_save=True)
    print(f"Training ends: {state.why_finished(max_epochs, max_steps)}.", flush=True)
    return state


def end_epoch(task, folder, state, scores, score, show_scores):
    """Ends an epoch: logs its scores, keeps its weights if they are the best so far.

    Args:
        task, folder: see `fit`.
        state: `State` after the last step of the epoch.
        scores, score: what `task.evaluate` returned.
        show_scores: function of the scores that prints them.

    Returns:
        The record that was logged, a dict.
    """
    state.epochs += 1
    show_scores(scores)
    record = {"epoch": state.epochs, "step": state.step}
    record |= {"learning_rate": task.learning_rate, **scores}
    folder.log(record)
    state.stop_reason = task.end_epoch(score)
    is_number = not np.isnan(score).any()
    if is_number and (state.best_score is None or score > state.best_score):
        state.best_score = score
        state.best_weights = folder.checkpoints.save_weights(
            task.model, state.epochs, state.step
        )
    state.truncated = state.position < task.n_batches
    state.position = 0
    state.recurrent = task.initial_state()
    state.means = Means()
    return record

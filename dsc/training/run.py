"""The part that all training scripts share: train or load a model, then score it."""

from dsc.cli import flags as shared_flags
from dsc.distributed.coordination import check_same_command
from dsc.runs.folder import RunFolder
from dsc.runs.provenance import about
from dsc.training.loop import fit


def run_task(task, saved, flags, corpus, data, vocabulary=None, accelerator=None):
    """Trains a task, or loads a trained model, and prints the final scores.

    Starts or resumes the run in --train_dir, and writes its `result.json` at the end.
    With --load_model or --max_epochs 0 nothing is trained.

    Args:
        task: `dsc.training.task.Task`.
        saved: `RunFolder` of --load_model, or None.
        flags: `absl.flags.FLAGS` with those of `dsc.cli.flags`.
        corpus: name of the data.
        data: dict from split to checksum. Other data make another run.
        vocabulary: words to keep with a new run, or None.
        accelerator: see `dsc.runs.provenance.about`.

    Raises:
        RunError: a run cannot be read or written.
    """
    folder = state = None
    if saved:
        saved.checkpoints.load_weights(task.model)
    elif flags.max_epochs:
        given = shared_flags.values(flags)
        check_same_command(task.distribution, given, data)
        folder = RunFolder.begin(
            task.distribution.folder(flags.train_dir),
            given,
            data,
            about(task.model, corpus, accelerator),
            flags.restart,
            vocabulary,
        )
        length = flags.max_epochs, flags.print_every, flags.max_steps
        state = fit(task, folder, *length, flags.save_every)
        folder.checkpoints.load_weights(task.model)
        print(f"The best weights on validation are in {folder.checkpoints.best}.")
    else:
        print("These are the initial weights: --max_epochs 0 and no --load_model.")
    if task.distribution.is_chief:
        if folder:
            finish(task, folder, state, flags.max_epochs, flags.max_steps)
        else:
            task.report()
    task.distribution.shutdown_barrier()


def finish(task, folder, state, max_epochs, max_steps):
    """Prints the final scores of a trained task and writes `result.json`.

    Args:
        task: `dsc.training.task.Task` with its best weights.
        folder: `RunFolder` of the run.
        state, max_epochs, max_steps: see `dsc.training.loop.fit`.
    """
    scores = task.report(state.best_score)
    best = state.best_weights  # best-<epochs>-...
    folder.finish(
        {
            "scores": scores,
            "best_epoch": best and int(best.split("-")[1]),
            "epochs": state.epochs,
            "steps": state.step,
            "stop_reason": state.why_finished(max_epochs, max_steps),
            "seconds": state.seconds,
        }
    )

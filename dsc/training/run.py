"""Training under TensorFlow from a command line: starts or resumes a run."""

from dsc import noise
from dsc.cli import flags as shared_flags
from dsc.distributed.coordination import check_same_command
from dsc.runs.folder import RunFolder
from dsc.runs.provenance import about
from dsc.runs.tensorboard import Events
from dsc.training import loop
from dsc.training.step import make_train_step


def train_or_load(task, saved, flags, corpus, data, vocabulary=None):
    """Gives the task's model the weights that the flags ask for.

    Args:
        task: `Task`.
        saved: `RunFolder` of --load_model, or None.
        flags: `absl.flags.FLAGS` with those of `dsc.cli.flags`.
        corpus: name of the data.
        data: dict from split to a digest of its content: with other data, a run is
            another run.
        vocabulary: words to keep with a new run, or None.

    Returns:
        The best score, which the weights of a training have, or None.

    Raises:
        RunError: a run cannot be read or written.
    """
    if saved:
        saved.checkpoints.load_weights(task.model)
    elif flags.max_epochs:
        config = shared_flags.values(flags)
        config |= {"data": data, "about": about(task.model, corpus)}
        check_same_command(task.distribution, config)
        folder = task.distribution.folder(flags.train_dir)
        folder = RunFolder.begin(folder, config, flags.restart, vocabulary)
        best = fit(
            task,
            folder,
            flags.max_epochs,
            flags.print_every,
            flags.max_steps,
            flags.save_every,
        )
        folder.checkpoints.load_weights(task.model)
        print(f"The best weights on validation are in {folder.checkpoints.best}.")
        return best
    else:
        print("These are the initial weights: --max_epochs 0 and no --load_model.")
    return None


def fit(task, folder, max_epochs, print_every, max_steps=None, save_every=60.0):
    """Trains a `Task` and logs to TensorBoard; see `dsc.training.loop.fit`."""

    def begin(state):
        events = Events(folder.path, folder.records, folder.hparams)
        train_step = make_train_step(task)

        def train(state):
            batch = task.batch(state.epochs, state.position)
            step = noise.number(state.step)
            state.recurrent, metrics = train_step(step, batch, state.recurrent)
            return metrics

        return train, events.log

    return loop.fit(task, folder, max_epochs, print_every, max_steps, save_every, begin)

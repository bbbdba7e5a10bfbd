"""What a training script does once it has a task: begins or resumes a run, or loads."""

import keras

from dsc.cli import flags as shared_flags
from dsc.distributed.coordination import check_same_command
from dsc.runs.folder import RunFolder
from dsc.runs.provenance import about
from dsc.training.loop import fit


def train_or_load(task, saved, flags, corpus, data, vocabulary=None, accelerator=None):
    """Gives the task's model the weights that the flags ask for.

    Args:
        task: `Task`.
        saved: `RunFolder` of --load_model, or None.
        flags: `absl.flags.FLAGS` with those of `dsc.cli.flags`.
        corpus: name of the data.
        data: dict from split to a digest of its content: with other data, a run is
            another run.
        vocabulary: words to keep with a new run, or None.
        accelerator: see `dsc.runs.provenance.about`.

    Returns:
        The best score, which the weights of a training have, or None.

    Raises:
        RunError: a run cannot be read or written.
    """
    if saved:
        saved.checkpoints.load_weights(task.model)
    elif flags.max_epochs:
        config = shared_flags.values(flags)
        config |= {"data": data, "about": about(task.model, corpus, accelerator)}
        if keras.backend.backend() == "jax":  # with other random numbers
            config["trained with"] = "JAX"
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

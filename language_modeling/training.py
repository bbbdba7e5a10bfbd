"""What `rl_train.py` and `scripts/train_jax.py` share: flags to task to run."""

import keras

from dsc.runs.folder import RunFolder
from dsc.training.run import run_task
from language_modeling import data
from language_modeling import flags as language_flags
from language_modeling.model import LanguageModel


def run(task_class, values, distribution, accelerator=None):
    """Trains and evaluates a language model, or evaluates a trained one.

    Args:
        task_class: `LanguageModeling` or `JaxLanguageModeling`.
        values: `absl.flags.FlagValues` of `language_modeling.flags`, parsed.
        distribution: `dsc.distributed.base.Distribution`.
        accelerator: see `dsc.runs.provenance.about`.

    Raises:
        RunError: the corpus cannot be used, or a run cannot be read or written.
    """
    language_flags.apply_recipe(values)
    saved = None
    if values.load_model:
        saved = RunFolder.open(values.load_model)
        saved.restore_flags(values)
    paths, corpus, facts = data.load(values, saved)
    trains = values.max_epochs and not saved
    if not trains:
        del corpus.ids["train"]  # may be too short for one window
    task = make_task(task_class, values, corpus, distribution, facts)
    unit = task.unit
    size = f"{task.model.count_params():,} weights, {len(corpus.vocabulary)} {unit} in "
    size += "the vocabulary"
    if trains:
        size += f", {task.n_batches} steps of {task.batch_units} {unit} per epoch"
    print(f"{size}.")
    unscored = ", ".join(f"{split} {n}" for split, n in task.n_unscored.items())
    print(
        f"{unit.capitalize()} outside the windows, which are not predicted: {unscored}."
    )
    name = paths["train"].resolve().parent.name
    run_task(task, saved, values, name, corpus.digests, corpus.vocabulary, accelerator)


def make_task(task_class, values, corpus, distribution, facts=None):
    """The task with its model and optimizer; see `run` for the arguments."""
    with distribution.scope():
        model = LanguageModel(
            len(corpus.vocabulary), **language_flags.model_arguments(values)
        )
        model.build()
        optimizer = keras.optimizers.SGD(values.learning_rate)
    return task_class(
        model,
        optimizer,
        corpus,
        **language_flags.task_arguments(values),
        facts=facts,
        distribution=distribution,
    )

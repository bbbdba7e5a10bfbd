"""What both training scripts of the language model do, whatever computes the steps."""

import keras

from dsc.training.run import run_task
from language_modeling import data
from language_modeling import flags as language_flags
from language_modeling.inference import trained_model
from language_modeling.model import LanguageModel


def run(task_class, values, distribution, accelerator=None):
    """Trains and evaluates a language model, or evaluates a trained one.

    Args:
        task_class: `LanguageModeling` or `JaxLanguageModeling`.
        values: `absl.flags.FlagValues` of `language_modeling.flags`, parsed.
        distribution: see `Task`.
        accelerator: see `dsc.runs.provenance.about`.

    Raises:
        DataError: the corpus cannot be used.
        RunError: a run cannot be read or written.
    """
    saved = trained_model.restore(values) if values.load_model else None
    paths, facts = data.find(values, saved)
    corpus = data.read(values, paths, saved)
    trains = values.max_epochs and not saved
    if not trains:
        del corpus.ids["train"]  # which need not have a window
    task = make_task(task_class, values, corpus, distribution, facts)
    size = f"{task.model.count_params():,} weights, {len(corpus.vocabulary)} words in "
    size += "the vocabulary"
    if trains:
        size += f", {task.n_batches} steps of {task.batch_units} words per epoch"
    print(f"{size}.")
    left_out = ", ".join(f"{split} {n}" for split, n in task.n_unscored.items())
    print(f"Words that are in no window, and so not predicted: {left_out}.")
    name, digests = paths["train"].resolve().parent.name, corpus.digests
    run_task(task, saved, values, name, digests, corpus.vocabulary, accelerator)


def make_task(task_class, values, corpus, distribution, facts=None):
    """The model and what is learned, from the flags; see `run`."""
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

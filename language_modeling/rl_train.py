"""Trains and evaluates the language model with dynamic skip connections.

    python language_modeling/rl_train.py --n_actions 5

The flags are those of the authors' release, with its defaults, and some new ones.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this clone's code

from dsc.cli import program, startup
from language_modeling.flags import FLAGS

if __name__ == "__main__":
    program.parse(FLAGS, __doc__)  # before the imports below, which take seconds
with startup.backend("tensorflow"):
    import keras

from dsc.distributed.strategy import make_distribution
from dsc.training.run import train_or_load
from dsc.training.step import limit_gpu_memory
from language_modeling import data
from language_modeling import flags as language_flags
from language_modeling.corpora import DataError
from language_modeling.inference import modes, trained_model
from language_modeling.model import LanguageModel
from language_modeling.task import LanguageModeling


def run():
    """Trains and evaluates, or does with a trained model what --mode says."""
    limit_gpu_memory(FLAGS.gpu_portion)
    replicas = make_distribution(FLAGS)
    keras.utils.set_random_seed(FLAGS.seed)
    if FLAGS.mode != "evaluate":
        modes.MODES[FLAGS.mode](trained_model.TrainedModel.open(FLAGS), FLAGS)
        return
    saved = trained_model.restore(FLAGS) if FLAGS.load_model else None
    paths, facts = data.find(FLAGS, saved)
    corpus = data.read(FLAGS, paths, saved)
    trains = FLAGS.max_epochs and not saved
    if not trains:
        del corpus.ids["train"]  # which need not have a window
    task = make_task(corpus, replicas, facts)
    size = f"{task.model.count_params():,} weights, {len(corpus.vocabulary)} words in "
    size += "the vocabulary"
    if trains:
        size += f", {task.n_batches} steps of {task.batch_units} words per epoch"
    print(f"{size}.")
    left_out = ", ".join(f"{split} {n}" for split, n in task.n_unscored.items())
    print(f"Words that are in no window, and so not predicted: {left_out}.")
    name, digests = paths["train"].resolve().parent.name, corpus.digests
    score = train_or_load(task, saved, FLAGS, name, digests, corpus.vocabulary)
    if replicas.is_chief:
        task.report(score)
    replicas.shutdown_barrier()


def make_task(corpus, replicas, facts=None):
    """The model and what is learned, from the flags."""
    with replicas.scope():
        model = LanguageModel(
            len(corpus.vocabulary), **language_flags.model_arguments(FLAGS)
        )
        model.build()
        optimizer = keras.optimizers.SGD(FLAGS.learning_rate)
    return LanguageModeling(
        model,
        optimizer,
        corpus,
        **language_flags.task_arguments(FLAGS),
        facts=facts,
        distribution=replicas,
    )


if __name__ == "__main__":
    program.main(FLAGS, run, DataError)

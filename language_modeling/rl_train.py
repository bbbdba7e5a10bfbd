"""Trains and evaluates the language model with dynamic skip connections.

    python language_modeling/rl_train.py --n_actions 5

The flags are those of the authors' release, with its defaults, and some new ones.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this clone's code

from dsc import interruption, startup

if __name__ == "__main__":
    interruption.exit_on_signals()  # the imports below take seconds
with startup.backend("tensorflow"):
    import keras

from absl import app, flags

from dsc import distribution, program, training
from dsc import flags as shared_flags
from dsc.errors import RunError
from language_modeling import data, modes, reader, trained
from language_modeling import flags as language_flags
from language_modeling.model import LanguageModel
from language_modeling.task import LanguageModeling

FLAGS = flags.FLAGS
flags.adopt_module_key_flags(shared_flags)  # for --help
flags.adopt_module_key_flags(language_flags)


def run():
    """Trains and evaluates, or does with a trained model what --mode says."""
    training.limit_gpu_memory(FLAGS.gpu_portion)
    replicas = distribution.make(FLAGS)
    keras.utils.set_random_seed(FLAGS.seed)
    if FLAGS.mode != "evaluate":
        modes.MODES[FLAGS.mode](trained.Trained.open(FLAGS.load_model))
        return
    saved = trained.restore(FLAGS.load_model) if FLAGS.load_model else None
    paths, known = data.find()
    corpus = data.read(paths)
    task = make_task(corpus, replicas)
    print(
        f"{task.model.count_params():,} weights, {len(corpus.vocabulary)} words in the "
        f"vocabulary, {task.n_batches} steps of {task.batch_units} words per epoch."
    )
    left_out = ", ".join(f"{split} {n}" for split, n in task.n_uncovered.items())
    print(f"Words that are in no window, and so not predicted: {left_out}.")
    if saved and saved.read_vocabulary() != corpus.vocabulary:
        raise RunError(
            f"--data_dir: its training file has another vocabulary than the run in "
            f"{FLAGS.load_model}; give the corpus that the model was trained on."
        )
    name, digests = paths["train"].resolve().parent.name, corpus.digests
    training.train_or_load(task, saved, FLAGS, name, digests, corpus.vocabulary)
    if replicas.is_chief:
        task.report(known)
    replicas.leave()


def make_task(corpus, replicas):
    """The model and what is learned, from the flags."""
    with replicas.scope():
        model = LanguageModel(
            len(corpus.vocabulary), **language_flags.model_arguments()
        )
        model.build()
        optimizer = keras.optimizers.SGD(FLAGS.learning_rate)
    return LanguageModeling(
        model,
        optimizer,
        corpus,
        **language_flags.task_arguments(),
        distribution=replicas,
    )


if __name__ == "__main__":
    app.run(program.main(run, reader.DataError))

"""Trains and evaluates number prediction with dynamic skip connections.

    python number_prediction/produce_data.py
    python number_prediction/rl_train.py

Shared flags are named as in `language_modeling/rl_train.py`.
"""

import functools
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this clone's code

from dsc.cli import program, startup
from dsc.cli.errors import RunError
from number_prediction.flags import FLAGS, data_path, recipe_of

if __name__ == "__main__":
    program.parse(FLAGS, __doc__)  # before the imports below, which take seconds
with startup.backend("tensorflow"):
    import keras

from dsc.cli import flags as shared_flags
from dsc.distributed.strategy import make_distribution
from dsc.runs.folder import RunFolder
from dsc.training.run import run_task
from dsc.training.step import limit_gpu_memory
from number_prediction import produce_data
from number_prediction.model import NumberPredictor
from number_prediction.task import NumberPrediction


def run():
    """Trains, or evaluates a trained model."""
    limit_gpu_memory(FLAGS.gpu_portion)
    replicas = make_distribution(FLAGS)
    keras.utils.set_random_seed(FLAGS.seed)
    shared_flags.apply_recipe(FLAGS)
    saved = None
    if FLAGS.load_model:
        saved = RunFolder.open(FLAGS.load_model)
        saved.restore_flags(FLAGS)
    task = make_task(replicas)
    FLAGS.data_dir = os.path.abspath(FLAGS.data_dir)  # for config.json
    digests = produce_data.digests(task.data)
    if saved:
        saved.check_data(digests, FLAGS, "data_dir", "released_data", "hops")
    size = f"{task.model.count_params():,} weights"
    if FLAGS.max_epochs and not saved:
        size += f", {task.n_batches} steps of {FLAGS.batch_size} sequences per epoch"
    print(f"{size}.")
    name = f"{FLAGS.sequence_length}+1 {produce_data.numbers(FLAGS.n_numbers)}"
    name += f", {FLAGS.hops} hops" if FLAGS.hops > 1 else ""
    run_task(task, saved, FLAGS, name, digests)


def make_task(replicas):
    """The `NumberPrediction` task of the flags."""
    recipe, path, n_numbers = recipe_of(FLAGS), data_path(FLAGS), FLAGS.n_numbers
    data = produce_data.read(path, FLAGS.sequence_length, n_numbers)
    n_train = len(data["train"][1])
    if FLAGS.max_epochs and not FLAGS.load_model and n_train < FLAGS.batch_size:
        raise RunError(
            f"--batch_size {FLAGS.batch_size} is more than the {n_train} training "
            f"sequences in {path.name}; lower it or write more with produce_data.py."
        )
    fresh = None
    if FLAGS.fresh_data:
        fresh = functools.partial(
            produce_data.draw_epoch,
            seed=FLAGS.seed,
            n=n_train,
            sequence_length=FLAGS.sequence_length,
            released_data=recipe.released_data,
            n_numbers=n_numbers,
            hops=FLAGS.hops,
        )
    compiled = FLAGS.jit_compile and FLAGS.strategy == "none"
    compiled = compiled and FLAGS.model != "attention"  # it has only a plain loop
    with replicas.scope():
        model = NumberPredictor(
            **shared_flags.layer_arguments(FLAGS, recipe),
            implementation="xla" if compiled else "auto",
            n_numbers=n_numbers,
        )
        model.build()
        optimizer = keras.optimizers.Adam(FLAGS.learning_rate, epsilon=1e-8)
    return NumberPrediction(
        model,
        optimizer,
        data,
        recipe,
        FLAGS.batch_size,
        FLAGS.seed,
        FLAGS.patience,
        replicas,
        fresh,
    )


if __name__ == "__main__":
    program.main(FLAGS, run)

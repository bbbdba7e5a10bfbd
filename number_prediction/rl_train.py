"""Trains and evaluates number prediction with dynamic skip connections.

    python number_prediction/produce_data.py
    python number_prediction/rl_train.py

Flags that mean the same are named as in `language_modeling/rl_train.py`.
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this clone's code

from dsc.cli import program, startup
from number_prediction.flags import FLAGS, data_path, recipe_of

if __name__ == "__main__":
    program.parse(FLAGS, __doc__)  # before the imports below, which take seconds
with startup.backend("tensorflow"):
    import keras

import numpy as np

from dsc.cli import flags as shared_flags
from dsc.distributed.strategy import make_distribution
from dsc.runs.folder import RunFolder
from dsc.training.run import train_or_load
from dsc.training.step import limit_gpu_memory
from number_prediction import produce_data
from number_prediction.model import NumberPredictor
from number_prediction.task import (
    NumberPrediction,
    counts,
    describe_confusion,
    describe_places,
)

MAX_COLUMNS = 12  # of a table on a terminal


def run():
    """Trains, or evaluates what was trained."""
    limit_gpu_memory(FLAGS.gpu_portion)
    replicas = make_distribution(FLAGS)
    keras.utils.set_random_seed(FLAGS.seed)
    saved = None
    if FLAGS.load_model:
        saved = RunFolder.open(FLAGS.load_model)
        saved.restore_flags(
            FLAGS,
            fixed=(*shared_flags.MODEL, "sequence_length", "n_numbers"),
            preset=("data_dir", "released_data", "batch_size", "seed", "jit_compile"),
        )
    task = make_task(replicas)
    FLAGS.data_dir = os.path.abspath(FLAGS.data_dir)  # so that a run keeps it
    digests = produce_data.digests(task.data)
    if saved:
        saved.check_data(digests, FLAGS, "data_dir", "released_data")
    size = f"{task.model.count_params():,} weights"
    if FLAGS.max_epochs and not saved:
        size += f", {task.n_batches} steps of {FLAGS.batch_size} sequences per epoch"
    print(f"{size}.")
    name = f"{FLAGS.sequence_length}+1 {produce_data.numbers(FLAGS.n_numbers)}"
    train_or_load(task, saved, FLAGS, name, digests)
    if replicas.is_chief:
        report(task, saved)
    replicas.shutdown_barrier()


def report(task, saved):
    """Prints how the task's model does on the test split."""
    x, y = task.data["test"]
    predictions = task.predict("test", "greedy")
    n_numbers, n_actions = task.model.n_numbers, task.model.dsc.n_actions
    if saved:
        print(describe_confusion(counts(y, predictions.answers, [n_numbers] * 2)))
    if 1 < n_actions <= MAX_COLUMNS and FLAGS.model != "attention":
        places = counts(x[:, -1], predictions.last_actions, (n_numbers, n_actions))
        print(describe_places(places))
    greedy = np.mean(predictions.answers == y)
    sampled = task.accuracy("test", "sample")
    print(f"test accuracy = {greedy:.6f} (greedy), {sampled:.6f} (sampled)")


def make_task(replicas):
    """The data, the model and what is learned, from the flags."""
    recipe, path, n_numbers = recipe_of(FLAGS), data_path(FLAGS), FLAGS.n_numbers
    data = produce_data.read(path, FLAGS.sequence_length, n_numbers)
    n_train = len(data["train"][1])
    if FLAGS.max_epochs and not FLAGS.load_model and n_train < FLAGS.batch_size:
        raise produce_data.DataError(
            f"--batch_size {FLAGS.batch_size} is more than the {n_train} training "
            f"sequences in {path.name}; lower it or make more with produce_data.py."
        )
    compiled = FLAGS.jit_compile and FLAGS.strategy == "none"
    compiled = compiled and FLAGS.model != "attention"  # which has a plain loop only
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
    )


if __name__ == "__main__":
    program.main(FLAGS, run, produce_data.DataError)

"""Trains and evaluates number prediction with dynamic skip connections.

    python number_prediction/produce_data.py
    python number_prediction/rl_train.py

Flags that mean the same are named as in `language_modeling/rl_train.py`.
"""

import os

from dsc import interruption

if __name__ == "__main__":
    interruption.exit_on_signals()  # the imports below take seconds
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["KERAS_BACKEND"] = "tensorflow"

from pathlib import Path

import keras
from absl import app, flags

from dsc import distribution, program, recipes, training
from dsc import flags as shared_flags
from dsc.run_folder import RunFolder
from number_prediction import produce_data
from number_prediction.model import NumberPredictor
from number_prediction.task import NumberPrediction, describe_confusion

ROOT = Path(__file__).resolve().parents[1]
FLAGS = flags.FLAGS
RECIPES = recipes.NUMBER_PREDICTION

# data
shared_flags.define_path(
    "data_dir", str(ROOT / "data"), "folder that produce_data.py wrote to"
)
produce_data.define_sequences()
flags.DEFINE_bool(
    "released_data", None, "read the data as the release makes it (recipe: no)"
)
shared_flags.define_run(train_dir="cv-number-prediction")

# model
shared_flags.define_model(rnn_size=200, n_actions=10, agent_units=10)

# optimization
shared_flags.define_optimization(learning_rate=0.001, batch_size=100, max_epochs=200)
flags.DEFINE_integer(
    "patience", 10, "end training after so many epochs without a better validation", 1
)
flags.DEFINE_bool(
    "jit_compile",
    True,
    "have XLA compile the steps: seconds at the start, a third of every step saved "
    "(scripts/benchmark.py --only np); only with --strategy none, since XLA compiles "
    "no exchange between replicas, and not for --model attention",
)

# reinforcement learning
shared_flags.define_recipe(RECIPES)
produce_data.refuse_released("recipe", "released_data")
flags.DEFINE_enum(
    "credit",
    None,
    recipes.CREDITS,
    "choices that the reward of a sequence credits: all, or the last alone, at the "
    "index (default: the recipe's: all)",
)

# use of a trained model
shared_flags.define_mode(
    ("evaluate",), "of the model of --load_model: which numbers it takes for which"
)

for module in (shared_flags, produce_data):
    flags.adopt_module_key_flags(module)  # for --help


def run():
    """Trains, or evaluates what was trained."""
    training.limit_gpu_memory(FLAGS.gpu_portion)
    replicas = distribution.make(FLAGS)
    keras.utils.set_random_seed(FLAGS.seed)
    saved = None
    if FLAGS.load_model:
        saved = RunFolder.open(FLAGS.load_model)
        saved.restore_flags(
            FLAGS,
            fixed=(*shared_flags.MODEL, "sequence_length", "n_numbers"),
            preset=("released_data", "batch_size", "seed", "jit_compile"),
        )
    task = make_task(replicas)
    print(
        f"{task.model.count_params():,} weights, {task.n_batches} steps of "
        f"{FLAGS.batch_size} sequences per epoch."
    )
    name = f"{FLAGS.sequence_length}+1 {produce_data.numbers(FLAGS.n_numbers)}"
    training.train_or_load(task, saved, FLAGS, name, produce_data.digests(task.data))
    if replicas.is_chief:
        report(task, saved)
    replicas.leave()


def report(task, saved):
    """Prints how the task's model does on the test split."""
    greedy, sampled = (task.accuracy("test", how) for how in ("greedy", "sample"))
    if saved:
        print(describe_confusion(task.confusion("test")))
    print(f"test accuracy = {greedy:.6f} (greedy), {sampled:.6f} (sampled)")


def recipe_of(values):
    """The `dsc.recipes.Recipe` that flags ask for."""
    return RECIPES[values.recipe].changed_by(values).for_model(values.model)


def data_path(values):
    """The file with the sequences that flags ask for."""
    released = recipe_of(values).released_data
    name = produce_data.file_name(values.sequence_length, released, values.n_numbers)
    return Path(values.data_dir) / name


def make_task(replicas):
    """The data, the model and what is learned, from the flags."""
    recipe, path, n_numbers = recipe_of(FLAGS), data_path(FLAGS), FLAGS.n_numbers
    data = produce_data.read(path, FLAGS.sequence_length, n_numbers)
    n_train = len(data["train"][1])
    if n_train < FLAGS.batch_size:
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
    app.run(program.main(run, produce_data.DataError))

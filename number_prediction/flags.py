"""The flags of number prediction; those that mean the same are the language model's."""

from pathlib import Path

from dsc import recipes
from dsc.cli import flags as shared_flags
from number_prediction import produce_data

ROOT = Path(__file__).resolve().parents[1]
RECIPES = recipes.NUMBER_PREDICTION

data = shared_flags.Group("data")
FLAGS = data.defined
data.path("data_dir", str(ROOT / "data"), "folder that produce_data.py wrote to")
produce_data.define_sequences(data)
data.bool("released_data", None, "read the data as the release makes it (recipe: no)")

shared_flags.define_model(FLAGS, rnn_size=200, n_actions=10, agent_units=10)
shared_flags.define_recipe(FLAGS, RECIPES)
produce_data.refuse_released(data, "recipe", "released_data")
shared_flags.Group("agent", FLAGS).enum(
    "credit",
    None,
    recipes.CREDITS,
    "choices that the reward of a sequence credits: all, or the last alone, at the "
    "index (default: the recipe's: all)",
)

shared_flags.define_optimization(
    FLAGS, learning_rate=0.001, batch_size=100, max_epochs=200
)
optimization = shared_flags.Group("optimisation", FLAGS)
optimization.integer(
    "patience", 10, "end training after so many epochs without a better validation", 1
)
optimization.bool(
    "jit_compile",
    True,
    "have XLA compile the steps: seconds at the start, a third of every step saved "
    "(scripts/benchmark.py --only np); only with --strategy none, since XLA compiles "
    "no exchange between replicas, and not for --model attention",
)

shared_flags.define_run(FLAGS, train_dir="cv-number-prediction")

shared_flags.define_use(
    FLAGS,
    ("evaluate",),
    "of the model of --load_model: which numbers it takes for which",
)


def recipe_of(values):
    """The `dsc.recipes.Recipe` that flags ask for."""
    return RECIPES[values.recipe].with_flag_overrides(values).for_model(values.model)


def data_path(values):
    """The file with the sequences that flags ask for."""
    released = recipe_of(values).released_data
    name = produce_data.file_name(values.sequence_length, released, values.n_numbers)
    return Path(values.data_dir) / name

"""Flags of number prediction, named as in the language model where they exist there."""

from pathlib import Path

from dsc import recipes
from dsc.cli import flags as shared_flags
from number_prediction import produce_data

ROOT = Path(__file__).resolve().parents[1]
RECIPES = recipes.NUMBER_PREDICTION

data = shared_flags.Group("data")
FLAGS = data.defined
data.path("data_dir", str(ROOT / "data"), "folder with the file of produce_data.py")
produce_data.define_sequences(data)
data.bool("released_data", None, "read the release's data (default: the recipe's: no)")
data.bool(
    "fresh_data",
    False,
    "train on new sequences in each epoch, as many as the file has to train on",
)

shared_flags.define_model(FLAGS, rnn_size=200, n_actions=10, agent_units=10)
shared_flags.define_recipe(FLAGS, RECIPES)
produce_data.refuse_released(data, "recipe", "released_data")
shared_flags.Group("agent", FLAGS).enum(
    "credit",
    None,
    recipes.CREDITS,
    "actions that the reward credits (default: the recipe's: all)",
)
data.refuse_unless(
    ("estimator", "credit"),
    lambda given: given["estimator"] != "exact" or given["credit"] == "last",
    "--estimator exact needs a reward that comes at once: give --credit last",
)

shared_flags.define_optimization(
    FLAGS, learning_rate=0.001, batch_size=100, max_epochs=200
)
optimization = shared_flags.Group("optimisation", FLAGS)
optimization.integer(
    "patience", 10, "stop after so many epochs without better validation accuracy", 1
)
optimization.bool(
    "jit_compile",
    True,
    "compile the steps with XLA: slower at the start, then a third faster; ignored "
    "with --strategy and --model attention",
)

shared_flags.define_run(FLAGS, train_dir="cv-number-prediction")

shared_flags.define_use(
    FLAGS,
    ("evaluate",),
    "what to do with the model of --load_model: print which numbers it confuses",
)


def recipe_of(values):
    """The `dsc.recipes.Recipe` of the flags."""
    return RECIPES[values.recipe].with_flag_overrides(values).for_model(values.model)


def data_path(values):
    """The data file of the flags."""
    released = recipe_of(values).released_data
    name = produce_data.file_name(
        values.sequence_length, released, values.n_numbers, values.hops
    )
    return Path(values.data_dir) / name

"""The command-line flags that both training scripts share.

Names and defaults are the release's where it has the flag.
"""

import math

from absl import flags

from dsc import losses
from dsc.cell import OBSERVATIONS
from dsc.recipes import OF_MODEL

# Beyond these a model fits no machine; said here, it is said before memory runs out.
MAX_UNITS = 100_000
MAX_ACTIONS = 1000


def define_float(name, default, help_text, lower=None, upper=None):
    """A flag for a float, which must be finite."""
    flags.DEFINE_float(name, default, help_text, lower, upper)
    flags.register_validator(
        name,
        lambda value: value is None or math.isfinite(value),
        "it must be a finite number",
    )


def define_path(name, default, help_text):
    """A flag for a file or folder, which must not be empty as an unset variable is."""
    flags.DEFINE_string(name, default, help_text)
    flags.register_validator(
        name, lambda value: value != "", "it is empty; give a path or leave it out"
    )


# What a trained model is used for: no part of how it was trained.
USE = {
    "input",
    "load_model",
    "mode",
    "n_words",
    "prompt",
    "sentences",
    "temperature",
    "top_k",
}


def values(defined):
    """What a run is started with: this project's flags and their values.

    Args:
        defined: `absl.flags.FLAGS`, parsed.
    """
    return {
        flag.name: flag.value
        for module, module_flags in defined.flags_by_module_dict().items()
        if not module.startswith(("absl.", "keras.", "tensorflow."))
        for flag in module_flags
        if flag.name not in USE
    }


# --model, and who chooses in it: see `DSCLSTMCell`. An LSTM has one state to choose.
CHOICES = {
    "dsc": "agent",
    "lstm": "agent",
    "fixed_skip": "oldest",
    "random_skip": "uniform",
    "attention": "attention",
}


def define_model(rnn_size, n_actions, agent_units):
    """Flags of the DSC-LSTM, with the task's defaults."""
    flags.DEFINE_enum(
        "model",
        "dsc",
        CHOICES,
        "the DSC-LSTM, or what stands in its place to compare it with: an LSTM "
        "(--n_actions is then 1); always the oldest of --n_actions states; one of them "
        "at random; attention to all of them",
    )
    flags.DEFINE_integer("rnn_size", rnn_size, "units of each layer", 1, MAX_UNITS)
    flags.DEFINE_integer(
        "n_actions",
        n_actions,
        "past states to choose from; 1 is an LSTM",
        1,
        MAX_ACTIONS,
    )
    define_float(
        "lamda",
        1.0,
        "how much of the chosen state enters the step; the rest is the newest state "
        "(--recipe released: the forget bias, and nothing is mixed)",
        0.0,
        1.0,
    )
    define_float(
        "forget_bias",
        1.0,
        "added in the DSC-LSTM's forget gate (--recipe released: see --lamda)",
    )
    flags.DEFINE_integer(
        "agent_units", agent_units, "units of the agent's layer", 1, MAX_UNITS
    )
    flags.DEFINE_enum(
        "observation",
        "mean",
        OBSERVATIONS,
        "what the agent sees of the past: the mean of the remembered hidden states "
        "(release) or the last one (paper)",
    )


# What the weights of the DSC-LSTM, or what they mean, depend on.
MODEL = (
    "recipe",
    "model",
    "rnn_size",
    "n_actions",
    "lamda",
    "forget_bias",
    "agent_units",
    "observation",
)


def layer_arguments(values, recipe):
    """What the flags say of the DSC-LSTM, as the models take it.

    Args:
        values: `absl.flags.FLAGS` with those of `define_model`.
        recipe: `dsc.recipes.Recipe`.

    Returns:
        Dict of arguments.
    """
    lamda, forget_bias = recipe.cell_arguments(values.lamda, values.forget_bias)
    return {
        "rnn_size": values.rnn_size,
        "n_actions": 1 if values.model == "lstm" else values.n_actions,
        "choice": CHOICES[values.model],
        "lamda": lamda,
        "forget_bias": forget_bias,
        "agent_units": values.agent_units,
        "observation": values.observation,
    }


def define_optimization(learning_rate, batch_size, max_epochs):
    """Flags of the optimisation, with the task's defaults."""
    define_float("learning_rate", learning_rate, "initial learning rate", 0.0)
    flags.DEFINE_integer(
        "batch_size", batch_size, "sequences trained on in parallel", 1
    )
    flags.DEFINE_integer(
        "max_epochs", max_epochs, "passes through the data; 0 only evaluates", 0
    )
    flags.DEFINE_integer("max_steps", None, "end training after so many steps", 1)
    flags.DEFINE_enum(
        "strategy",
        "none",
        ("none", "mirrored", "multi_worker"),
        "split each batch over this machine's GPUs (mirrored) or over the workers that "
        "TF_CONFIG names and their GPUs (multi_worker); the results are those of none, "
        "to rounding",
    )


def define_recipe(recipes):
    """`--recipe`, and one flag for each switch of it that is worth turning alone.

    Args:
        recipes: dict from name to `dsc.recipes.Recipe`.
    """
    default = recipes["corrected"]

    def help_text(text, name):
        return f"{text} (default: the recipe's; corrected: {getattr(default, name)})"

    flags.DEFINE_enum(
        "recipe",
        "corrected",
        recipes,
        "corrected, or the arithmetic of the authors' release (see README)",
    )
    flags.DEFINE_enum(
        "baseline",
        None,
        losses.BASELINES,
        help_text("subtracted from the returns", "baseline"),
    )
    define_float(
        "rl_weight", None, help_text("weight of the policy loss", "rl_weight"), 0.0
    )
    define_float(
        "entropy_weight",
        None,
        help_text("weight of the policy's entropy", "entropy_weight"),
        0.0,
    )
    flags.DEFINE_enum(
        "eval_actions",
        None,
        ("greedy", "sample"),
        help_text("the agent's actions in evaluation", "eval_actions"),
    )
    flags.register_multi_flags_validator(
        ("model", "rl_weight", "entropy_weight", "eval_actions"),
        lambda given: all(
            given[name] in (None, value)
            for name, value in OF_MODEL.get(given["model"], {}).items()
        ),
        "--model attention has no policy to weigh, and --model random_skip always "
        "samples: leave the other flag out",
    )


def define_run(train_dir):
    """Flags of the run, with the task's folder."""
    define_path(
        "train_dir",
        train_dir,
        "folder of the run: flags, metrics, states, best weights; the same command "
        "goes on with a run that it holds",
    )
    define_float(
        "save_every", 60.0, "seconds between states from which a run goes on", 0.0
    )
    define_path(
        "load_model", None, "folder of a run whose model to use, without training"
    )
    flags.DEFINE_bool("restart", False, "move a run in --train_dir aside, begin anew")
    flags.DEFINE_integer("seed", 3435, "of weights, dropout, actions", 0, 2**31 - 1)
    flags.DEFINE_integer("print_every", 400, "steps between reports", 1)
    define_float(
        "gpu_portion", 1.0, "largest share of each GPU's memory to use", 0.01, 1.0
    )


def define_mode(modes, help_text):
    """`--mode`, of which all but `evaluate` need a trained model.

    Args:
        modes: names of what can be done with the model of `--load_model`.
        help_text: what they do.
    """
    flags.DEFINE_enum("mode", "evaluate", modes, help_text)
    flags.register_multi_flags_validator(
        ("mode", "load_model"),
        lambda given: given["mode"] == "evaluate" or given["load_model"],
        "--mode needs a trained model: give the folder of a run with --load_model",
    )

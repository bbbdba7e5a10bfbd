"""Defining flags, and the flags that all training scripts share.

Names and defaults are the release's where it has the flag. Nothing here imports Keras
or TensorFlow, so that `--help` is fast.
"""

import functools
import math

from absl import flags

from dsc.recipes import (
    BASELINES,
    ESTIMATORS,
    EVAL_ACTIONS,
    FLAGS_OF_RECIPE,
    LEARNED,
    OBSERVATIONS,
    are_shares,
)

# A larger model fits no machine: refuse it before the memory is exhausted.
MAX_UNITS = 100_000
MAX_ACTIONS = 1000
# Default bounds: int32, and a number that float32 can represent even when doubled.
MAX_INTEGER = 2**31 - 1
MAX_FLOAT = 1e30

# The role of each flag of the training scripts. A flag has one role.
ROLES = {
    role: tuple(names.split())
    for role, names in {
        # Define the model. A model is loaded with the values of its run.
        "architecture": "recipe model rnn_size rnn_layers n_actions lamda forget_bias "
        "carry_memory agent_units observation EOS vocab_size n_numbers sequence_length "
        "level shares zoneout tie_weights baseline",
        # Change what evaluation computes. A loaded model takes the values of its run
        # unless the user gives others.
        "evaluation": "batch_size num_unroll_steps eval_actions seed unknown "
        "score_tail mixed_precision released_data hops jit_compile",
        # Change what training computes.
        "training": "dropout recurrent_dropout variational param_init reward "
        "credit estimator rl_weight entropy_weight entropy_decay learning_rate "
        "learning_rate_decay lr_threshold decay_when max_grad_norm patience "
        "print_every fresh_data",
        # End training. A run is continued with larger values.
        "length": "max_epochs max_steps",
        # Find the data. A loaded model looks for them where its run found them.
        "data": "data_dir",
        # May differ between the workers of a run.
        "worker": "cache_dir gpu_portion train_dir",
        # Organise the computation; the results are the same.
        "execution": "restart save_every strategy",
        # Use a trained model.
        "inference": "load_model mode input sentences prompt n_words temperature top_k",
    }.items()
}


def with_role(*roles):
    """Names of the flags with one of these `ROLES`, a tuple."""
    return tuple(name for role in roles for name in ROLES[role])


# Flags that older runs lack, with the values that they were trained with.
LATER_FLAGS = {
    "fresh_data": False,
    "hops": 1,
    "level": "word",
    "recurrent_dropout": 0.0,
    "shares": None,
    "tie_weights": False,
    "variational": False,
    "zoneout": 0.0,
}

# Runs that differ only in these compute the same.
IGNORED_FLAGS = with_role("data", "worker", "execution")


class Group:
    """Defines flags that `--help` lists together.

    `group.bool` is `absl.flags.DEFINE_bool`, and so on for the other kinds.

    Args:
        title: of the group; groups are listed in the order of their first flags.
        defined: `absl.flags.FlagValues` of a program; by default new ones.
    """

    def __init__(self, title, defined=None):
        self.defined = flags.FlagValues() if defined is None else defined
        self._place = {"flag_values": self.defined, "module_name": title}

    def __getattr__(self, kind):
        return functools.partial(getattr(flags, f"DEFINE_{kind}"), **self._place)

    def integer(self, name, default, help_text, lower, upper=MAX_INTEGER):
        flags.DEFINE_integer(name, default, help_text, lower, upper, **self._place)

    def float(self, name, default, help_text, lower=-MAX_FLOAT, upper=MAX_FLOAT):
        flags.DEFINE_float(name, default, help_text, lower, upper, **self._place)
        finite = "it must be a finite number"
        self.check(name, lambda x: x is None or not math.isnan(x), finite)

    def path(self, name, default, help_text):
        """A file or folder; the empty text of an unset shell variable is refused."""
        self.string(name, default, help_text)
        because = "it is empty; give a path or leave it out"
        self.check(name, lambda path: path != "", because)

    def check(self, name, holds, because):
        """Refuses values of a flag for which `holds(value)` is false."""
        flags.register_validator(name, holds, because, flag_values=self.defined)

    def refuse_unless(self, names, holds, because):
        """Refuses values of the named flags for which `holds(dict)` is false."""
        flags.register_multi_flags_validator(names, holds, because, self.defined)


def values(defined):
    """The flags of a run, a dict from name to value.

    Args:
        defined: `absl.flags.FlagValues` of a training script, parsed.
    """
    return {
        flag.name: flag.value
        for members in defined.flags_by_module_dict().values()
        for flag in members
        if flag.name not in ROLES["inference"]
    }


# Of --model. The last three are choices of `DSCLSTMCell`; an LSTM has one action.
MODELS = ("dsc", "lstm", "fixed_skip", "random_skip", "attention")


def define_model(defined, rnn_size, n_actions, agent_units):
    """Flags of the DSC-LSTM, with the task's defaults."""
    model, agent = Group("model", defined), Group("agent", defined)
    model.enum(
        "model",
        "dsc",
        MODELS,
        "the DSC-LSTM, or a baseline: an LSTM (--n_actions is then 1), always the "
        "oldest of --n_actions states, a random one, attention to all of them",
    )
    model.integer("rnn_size", rnn_size, "units of each layer", 1, MAX_UNITS)
    model.integer(
        "n_actions", n_actions, "past states; 1 gives an LSTM", 1, MAX_ACTIONS
    )
    model.float(
        "lamda",
        1.0,
        "weight of the chosen state in the mix with the newest state (--recipe "
        "released: the forget bias, and nothing is mixed)",
        0.0,
        1.0,
    )
    model.string(
        "shares",
        None,
        "how often --model random_skip takes each state: --n_actions numbers, oldest "
        "first, whose sum is 1 (default: equally often)",
    )
    model.refuse_unless(
        ("shares", "model", "n_actions"),
        _fit_shares,
        "--shares are --n_actions numbers, separated by commas, whose sum is 1, for "
        "--model random_skip",
    )
    model.float(
        "forget_bias",
        1.0,
        "bias of the DSC-LSTM's forget gate (--recipe released: see --lamda)",
    )
    agent.integer(
        "agent_units", agent_units, "units of the agent's layer", 1, MAX_UNITS
    )
    agent.enum(
        "observation",
        "mean",
        OBSERVATIONS,
        "what the agent sees: the mean of the past hidden states (release), the last "
        "one (paper), or each of the states, which it then scores one by one",
    )


def _shares(text):
    return None if text is None else [float(share) for share in text.split(",")]


def _fit_shares(given):
    try:
        shares = _shares(given["shares"])
    except ValueError:
        return False
    return shares is None or (
        given["model"] == "random_skip" and are_shares(shares, given["n_actions"])
    )


def layer_arguments(values, recipe):
    """The models' arguments from the flags of `define_model`, a dict.

    Args:
        values: `absl.flags.FLAGS`.
        recipe: `dsc.recipes.Recipe`.
    """
    lamda, forget_bias = recipe.cell_arguments(values.lamda, values.forget_bias)
    return {
        "rnn_size": values.rnn_size,
        "n_actions": 1 if values.model == "lstm" else values.n_actions,
        "choice": values.model if values.model in MODELS[2:] else "agent",
        "lamda": lamda,
        "forget_bias": forget_bias,
        "agent_units": values.agent_units,
        "observation": values.observation,
        "shares": _shares(values.shares),
        "estimator": recipe.estimator,
        "baseline": recipe.baseline,
    }


def define_recipe(defined, recipes):
    """`--recipe`, and flags that override single switches of it.

    Args:
        defined: `absl.flags.FlagValues` with the flags of `define_model`.
        recipes: dict from name to `dsc.recipes.Recipe`.
    """
    agent = Group("agent", defined)

    def help_of(name, text):
        corrected = getattr(recipes["corrected"], name)
        return f"{text} (default: the recipe's; corrected: {corrected})"

    text = (
        "corrected, the arithmetic of the authors' release, or the paper's model, "
        "with --observation last --agent_units 50 and, for text, --rnn_layers 1"
    )
    Group("model", defined).enum("recipe", "corrected", recipes, text)
    text = help_of(
        "baseline",
        "subtracted from the returns: the mean of the batch; standardised also divides "
        "by the standard deviation, value also subtracts what a linear layer predicts",
    )
    agent.enum("baseline", None, (*BASELINES, LEARNED), text)
    text = help_of(
        "estimator",
        "of the policy gradient: from the sampled action, or exact, from the rewards "
        "of all actions of a step, without a baseline; changes nothing in a model "
        "without a policy: --model other than dsc, --n_actions 1",
    )
    agent.enum("estimator", None, ESTIMATORS, text)
    agent.refuse_unless(
        ("estimator", "recipe"),
        lambda given: (given["estimator"], given["recipe"]) != ("exact", "released"),
        "--estimator exact needs rewards that come at once, and --recipe released "
        "rewards an action later, too: leave one of them out",
    )
    agent.refuse_unless(
        ("baseline", "estimator", "model", "n_actions"),
        lambda given: (
            given["baseline"] != LEARNED
            or (
                given["model"] == "dsc"
                and given["n_actions"] > 1
                and given["estimator"] != "exact"
            )
        ),
        "--baseline value is for an agent that REINFORCE trains: --model dsc, "
        "--n_actions above 1 and --estimator reinforce",
    )
    text = help_of("rl_weight", "weight of the policy loss")
    agent.float("rl_weight", None, text, 0.0)
    text = help_of("entropy_weight", "weight of the policy's entropy")
    agent.float("entropy_weight", None, text, 0.0)
    text = help_of("entropy_decay", "factor on --entropy_weight, per epoch")
    agent.float("entropy_decay", None, text, 0.0, 1.0)
    text = help_of(
        "eval_actions",
        "the actions in evaluation: greedy, sample, newest (the newest state, as an "
        "LSTM) or mean:N (mean probability over N sampled passes)",
    )
    agent.string("eval_actions", None, text)
    agent.check(
        "eval_actions",
        lambda actions: actions is None or EVAL_ACTIONS.fullmatch(actions),
        "it is greedy, sample, newest or mean:N with N from 1 to 9999",
    )
    agent.refuse_unless(
        ("model", "rl_weight", "entropy_weight", "eval_actions"),
        _fit_model,
        "--model attention has no policy loss and chooses no state (newest, mean:N), "
        "and --model random_skip is never greedy: leave the other flag out",
    )


def _fit_model(given):
    if given["model"] == "random_skip":
        return given["eval_actions"] != "greedy"
    if given["model"] == "attention":
        learns = given["rl_weight"] or given["entropy_weight"]
        return not learns and given["eval_actions"] in (None, "greedy", "sample")
    return True


def apply_recipe(defined):
    """Gives flags that were not given the values of --recipe; see `FLAGS_OF_RECIPE`."""
    for name, value in FLAGS_OF_RECIPE.get(defined.recipe, {}).items():
        if name in defined and not defined[name].present:
            defined[name].value = value


def define_optimization(defined, learning_rate, batch_size, max_epochs):
    """Flags of the optimisation, with the task's defaults."""
    group = Group("optimisation", defined)
    group.float("learning_rate", learning_rate, "initial learning rate", 0.0)
    group.integer("batch_size", batch_size, "sequences trained on in parallel", 1)
    group.integer(
        "max_epochs", max_epochs, "passes through the data; 0 only evaluates", 0
    )
    group.integer("max_steps", None, "end training after so many steps", 1)


def define_run(defined, train_dir):
    """Flags of the run, with the task's folder."""
    group = Group("run", defined)
    group.path(
        "train_dir",
        train_dir,
        "folder of the run: flags, metrics, states, best weights; repeat the command "
        "to resume the run",
    )
    group.float("save_every", 60.0, "seconds between saved states", 0.0)
    group.bool("restart", False, "move a run in --train_dir away and start over")
    group.integer("seed", 3435, "seed of weights, dropout and actions", 0)
    group.integer("print_every", 400, "steps between reports", 1)
    group.enum(
        "strategy",
        "none",
        ("none", "mirrored", "multi_worker"),
        "split each batch over this machine's GPUs (mirrored) or over the GPUs of the "
        "workers in TF_CONFIG (multi_worker); the results agree to rounding",
    )
    group.float("gpu_portion", 1.0, "share of each GPU's memory to use", 0.01, 1.0)


def define_use(defined, modes, help_text):
    """`--load_model` and `--mode`; returns their `Group`.

    Args:
        defined: `absl.flags.FlagValues` of the program.
        modes: names of what can be done with a trained model.
        help_text: of `--mode`.
    """
    group = Group("use of a trained model", defined)
    group.path("load_model", None, "folder of a run: use its model, do not train")
    group.enum("mode", "evaluate", modes, help_text)
    group.refuse_unless(
        ("mode", "load_model"),
        lambda given: given["mode"] == "evaluate" or given["load_model"],
        "--mode needs a trained model: give the folder of a run with --load_model",
    )
    return group

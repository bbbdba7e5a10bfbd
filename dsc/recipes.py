"""Departures from the arithmetic of the release, one switch each.

The recipe `corrected` is the default of the scripts. `released` restores the release's
arithmetic, for comparison and for the golden files. `paper` is `corrected` with the
model of the paper. The numbers in brackets are the rows of the table in dsc/README.md.
"""

import dataclasses
import math
import re

BASELINES = ("none", "mean", "standardised")
LEARNED = "value"  # a fourth baseline of the scripts' models
OBSERVATIONS = ("mean", "last", "states")
REWARDS = ("prob", "log_prob")
CREDITS = ("all", "last")
ESTIMATORS = ("reinforce", "exact")
EVAL_ACTIONS = re.compile(r"greedy|sample|newest|mean:[1-9]\d{0,3}")
# Flags that a recipe sets if they are not given. The paper has one plain LSTM below the
# DSC-LSTM, and an agent of 50 units that sees the last state. How it weights reward and
# entropy, and whether it has a baseline, we do not know.
FLAGS_OF_RECIPE = {
    "paper": {"rnn_layers": 1, "observation": "last", "agent_units": 50},
}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Loss, reward and evaluation settings.

    Attributes:
        lamda_is_forget_bias: `--lamda` sets the forget bias, and no states are mixed
            (1).
        released_data: number prediction reads the file of the release's script, whose
            answers are noise; see `number_prediction/produce_data.py` (2).
        log_of_probability_plus_one: the policy loss is -log(1 + pi(a)) instead of
            -log pi(a) (3).
        mean_over_classes: the cross-entropy of number prediction is also averaged over
            the 10 classes (4).
        baseline: subtracted from the returns; see `dsc.losses.advantages` (5, 13).
            `value` also subtracts what `dsc.value.Value` predicts.
        entropy_weight: weight of the policy's entropy, a bonus in the loss (5, 13).
        entropy_decay: factor on the entropy weight after each epoch, in equal parts
            after each step.
        first_action_in_loss: the unused action of the first step of a window enters the
            policy loss of the language model (6).
        eval_actions: in validation and test, see `dsc.evaluation` (7).
        early_stopping: training stops when validation no longer improves (9).
        reward: of a word: its probability (`prob`) or, as in the paper, its
            log-probability (`log_prob`) under the model (13).
        reward_to_go: an action is credited with all later rewards of its window, not
            only with that of its own word (13).
        credit: of number prediction: the reward of a sequence credits `all` actions, or
            only the `last`, which reads the index.
        estimator: of the policy gradient: `reinforce`, from the sampled action, or
            `exact`, from the rewards of all actions of a step. The rewards must come at
            once, and `baseline` has no effect. A model without a policy, which has no
            such rewards, takes `reinforce`.
        rl_weight: weight of the policy loss (13).
        dense_norm: the gradient norm for clipping counts the gradient of the embedding
            as one matrix. The release counts each looked-up row separately (14).
    """

    lamda_is_forget_bias: bool = False
    released_data: bool = False
    log_of_probability_plus_one: bool = False
    mean_over_classes: bool = False
    baseline: str = "standardised"
    entropy_weight: float = 0.0
    entropy_decay: float = 1.0
    first_action_in_loss: bool = False
    eval_actions: str = "greedy"
    early_stopping: bool = True
    reward: str = "log_prob"
    reward_to_go: bool = False
    credit: str = "all"
    estimator: str = "reinforce"
    rl_weight: float = 1.0
    dense_norm: bool = True

    def with_flag_overrides(self, flags):
        """Returns this recipe with the values of the flags of the same names.

        Args:
            flags: `absl.flags.FlagValues`; a flag that is None or missing changes
                nothing.
        """
        names = [field.name for field in dataclasses.fields(self)]
        values = {name: flags[name].value for name in names if name in flags}
        return dataclasses.replace(
            self, **{name: v for name, v in values.items() if v is not None}
        )

    def after(self, epochs):
        """Returns this recipe after so many epochs, a float32 scalar tensor."""
        if self.entropy_decay == 1.0:
            return self
        weight = self.entropy_weight * self.entropy_decay**epochs
        return dataclasses.replace(self, entropy_weight=weight)

    def for_model(self, model):
        """Returns this recipe for one of the models of `--model`."""
        if model == "attention":  # has no policy to train
            return dataclasses.replace(self, rl_weight=0.0, entropy_weight=0.0)
        if model == "random_skip" and self.eval_actions == "greedy":
            return dataclasses.replace(self, eval_actions="sample")
        return self

    def cell_arguments(self, lamda, forget_bias):
        """Returns the `(lamda, forget_bias)` that the cell gets."""
        return (1.0, lamda) if self.lamda_is_forget_bias else (lamda, forget_bias)


def are_shares(shares, n):
    """Whether `shares` are n numbers >= 0 whose sum is 1, up to rounding."""
    return len(shares) == n and min(shares) >= 0 and abs(math.fsum(shares) - 1) < 1e-6


LANGUAGE_MODELING = {
    "corrected": Recipe(rl_weight=0.3, entropy_weight=0.005),
    "released": Recipe(
        lamda_is_forget_bias=True,
        baseline="none",
        first_action_in_loss=True,
        eval_actions="sample",
        early_stopping=False,
        reward="prob",
        reward_to_go=True,
        rl_weight=0.3,
        dense_norm=False,
    ),
}

NUMBER_PREDICTION = {
    "corrected": Recipe(baseline="mean", entropy_weight=0.01),
    "released": Recipe(
        lamda_is_forget_bias=True,
        released_data=True,
        log_of_probability_plus_one=True,
        mean_over_classes=True,
        baseline="none",
        eval_actions="sample",
        early_stopping=False,
        dense_norm=False,
    ),
}

LANGUAGE_MODELING["paper"] = LANGUAGE_MODELING["corrected"]
NUMBER_PREDICTION["paper"] = NUMBER_PREDICTION["corrected"]

"""Every departure from the release's arithmetic, as one named switch each.

`CORRECTED` is what the scripts do by default; `RELEASED` brings the release's
arithmetic back, for comparison and for the golden files. The numbers in brackets are
the rows of the README's table of differences.
"""

import dataclasses

BASELINES = ("none", "mean", "standardised")
OBSERVATIONS = ("mean", "last")
REWARDS = ("prob", "log_prob")
CREDITS = ("all", "last")
# Attention has no policy to reward, and a random skip no likeliest one to take.
MODEL_OVERRIDES = {
    "attention": {"rl_weight": 0.0, "entropy_weight": 0.0},
    "random_skip": {"eval_actions": "sample"},
}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What is learned from what, and how it is evaluated.

    Attributes:
        lamda_is_forget_bias: `--lamda` lands in the forget bias and nothing is mixed
            (1).
        released_data: number prediction reads the file that the release makes, where
            the answers are noise; see `number_prediction/produce_data.py` (2).
        log_of_probability_plus_one: the policy loss is -log(1 + pi(a)) in place of
            -log pi(a) (3).
        mean_over_classes: the cross-entropy of number prediction is averaged over the
            10 classes too (4).
        baseline: subtracted from the returns: `none`, the `mean` of the other rows of
            the batch at the same step, or `standardised`, which also divides by the
            standard deviation (5, 13).
        entropy_weight: weight of the policy's entropy, the paper's bonus in the loss
            (5, 13).
        first_action_in_loss: the action of a window's first step, which is never
            used, enters the policy loss of the language model (6).
        eval_actions: `greedy` or `sample`, in validation and test (7).
        early_stopping: training ends when validation improves no more (9).
        reward: of a word: its probability (`prob`) or, as in the paper, its
            log-probability (`log_prob`) under the model (13).
        reward_to_go: a choice is credited with all later rewards of its window, not
            with that of its own word alone (13).
        credit: of number prediction: a sequence's reward credits `all` its choices, or
            the `last` alone, which reads the index.
        rl_weight: weight of the policy loss beside the task's (13).
        dense_norm: the gradient norm that clips counts the embedding's gradient as one
            matrix. The release counts each looked-up row for itself (14).
    """

    lamda_is_forget_bias: bool = False
    released_data: bool = False
    log_of_probability_plus_one: bool = False
    mean_over_classes: bool = False
    baseline: str = "standardised"
    entropy_weight: float = 0.0
    first_action_in_loss: bool = False
    eval_actions: str = "greedy"
    early_stopping: bool = True
    reward: str = "log_prob"
    reward_to_go: bool = False
    credit: str = "all"
    rl_weight: float = 1.0
    dense_norm: bool = True

    def with_flag_overrides(self, flags):
        """This recipe with the switches that flags of the same name set.

        Args:
            flags: `absl.flags.FLAGS`; a flag that is None or missing changes nothing.
        """
        names = [field.name for field in dataclasses.fields(self)]
        values = {name: flags[name].value for name in names if name in flags}
        return dataclasses.replace(
            self, **{name: v for name, v in values.items() if v is not None}
        )

    def for_model(self, model):
        """This recipe as it is for a model in the DSC-LSTM's place, of `--model`."""
        return dataclasses.replace(self, **MODEL_OVERRIDES.get(model, {}))

    def cell_arguments(self, lamda, forget_bias):
        """What the cell gets for the flags: `(lamda, forget_bias)`."""
        return (1.0, lamda) if self.lamda_is_forget_bias else (lamda, forget_bias)


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

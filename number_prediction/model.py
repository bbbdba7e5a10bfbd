"""The number predictor and its loss; only `keras.ops`.

Paper, "Number Prediction with Skips"; release: `number_prediction/rl_train.py`.
"""

from typing import Any, NamedTuple

import keras
from keras import ops

from dsc import DSCLSTM, losses
from dsc.recipes import LEARNED
from dsc.value import Value


class Outputs(NamedTuple):
    """Outputs of the model.

    Attributes:
        logits: `[batch, n_numbers]`, of the answer.
        hidden: `[batch, rnn_size]`, the last output of the DSC-LSTM.
        skips: `dsc.Skips`.
        alternatives: `[batch, n_actions, n_numbers]`, the logits if the last step had
            continued from each of the states; None unless the estimator is exact
            and the model has a policy.
        values: `[batch, time]`, of a `dsc.value.Value`; None without one.
    """

    logits: Any
    hidden: Any
    skips: Any
    alternatives: Any = None
    values: Any = None


class NumberPredictor(keras.Model):
    """One-hot numbers, a DSC-LSTM, and a linear layer on its last output.

    Args:
        rnn_size: units of the DSC-LSTM.
        n_actions, agent_units, **dsc_arguments: see `dsc.DSCLSTM`.
        n_numbers: number of distinct inputs and answers.
        estimator: see `dsc.recipes.Recipe`.
        baseline: with `"value"`, an agent that REINFORCE trains has a
            `dsc.value.Value`.
    """

    def __init__(
        self,
        rnn_size=200,
        n_actions=10,
        agent_units=10,
        n_numbers=10,
        estimator="reinforce",
        baseline=None,
        **dsc_arguments,
    ):
        super().__init__()
        self.n_numbers = n_numbers
        self.dsc = DSCLSTM(
            rnn_size,
            n_actions,
            agent_units=agent_units,
            return_skips=True,
            name="dsc",
            **dsc_arguments,
        )
        has_policy = self.dsc.cell.has_policy
        self.dsc.return_alternatives = estimator == "exact" and has_policy
        self.out = keras.layers.Dense(
            n_numbers,
            # As in the release, which initialises the DSC-LSTM as Keras does.
            kernel_initializer=keras.initializers.RandomNormal(stddev=0.3),
            bias_initializer=keras.initializers.Constant(0.1),
            name="out",
        )
        learns_value = baseline == LEARNED and has_policy and estimator != "exact"
        self.value = Value(name="value") if learns_value else None

    def build(self, input_shape=None):
        sequence = (None, None, self.n_numbers)
        self.dsc.build(sequence)
        self.out.build((None, self.dsc.units))
        if self.value:
            self.value.build(sequence)
        self.built = True

    def call(self, numbers, noise=None):
        """Returns `Outputs` for a batch of sequences.

        Args:
            numbers: `[batch, time]`, integers 0..n_numbers-1.
            noise: `[batch, time, n_actions]`, or None for greedy actions.
        """
        x = ops.one_hot(numbers, self.n_numbers)  # [batch, time, n_numbers]
        hidden, skips, *alternatives = self.dsc(x, noise=noise)
        outputs = Outputs(self.out(hidden), hidden, skips, *map(self.out, alternatives))
        return outputs._replace(values=self.value(x)) if self.value else outputs


def loss(outputs, targets, recipe, advantages=losses.advantages):
    """The training loss of a batch.

    The agent's reward is +1 for a correct answer, -1 for a wrong one.

    Args:
        outputs: `Outputs`.
        targets: `[batch]`, the answers.
        recipe: `dsc.recipes.Recipe`.
        advantages: `losses.advantages`, or its equivalent for rows of a larger batch.

    Returns:
        `(scalar loss, dict of metrics)`: `nll`, `accuracy`, `reward`, `rl_loss` and
        `entropy` are scalars, `actions` `[n_actions]` has the share of each action. The
        last three cover the credited actions only.
    """
    nll = task_loss(outputs.logits, targets, recipe)
    right = is_right(outputs.logits, targets)
    # The first step ignores its action.
    first = -1 if recipe.credit == "last" else 1
    logits, actions = (part[:, first:] for part in outputs.skips)
    rewards = 2.0 * right - 1.0  # [batch]
    advantage = advantages(rewards[:, None], recipe.baseline)
    if outputs.values is not None:
        values = outputs.values[:, first:]
        advantage, value_loss = losses.value_advantages(advantage, values)
    if outputs.alternatives is not None:
        alternatives = is_right(outputs.alternatives, targets[:, None])
        rl_loss = losses.exact(logits, 2.0 * alternatives[:, None] - 1.0)
    elif recipe.log_of_probability_plus_one:
        probability = ops.exp(losses.log_prob(logits, actions))
        rl_loss = -ops.mean(ops.log(probability + 1.0) * advantage)
    else:
        rl_loss = losses.reinforce(logits, actions, advantage)
    rl_loss = recipe.rl_weight * rl_loss
    entropy = ops.mean(losses.entropy(logits))
    total = nll + rl_loss - recipe.entropy_weight * entropy
    if outputs.values is not None:
        total = total + value_loss
    metrics = {
        "nll": nll,
        "accuracy": ops.mean(right),
        "reward": ops.mean(rewards),
        "rl_loss": rl_loss,
        "entropy": entropy,
        "actions": ops.mean(ops.one_hot(actions, logits.shape[-1]), axis=(0, 1)),
    }
    return total, metrics


def task_loss(logits, targets, recipe):
    """Cross-entropy of the answers, in nats."""
    if recipe.mean_over_classes:
        right = ops.one_hot(targets, logits.shape[-1])
        return -ops.mean(right * ops.log(ops.softmax(logits) + 1e-7))
    return ops.mean(
        ops.sparse_categorical_crossentropy(targets, logits, from_logits=True)
    )


def is_right(logits, targets):
    """1.0 where the likeliest number is the answer, else 0.0; `[batch, ...]`."""
    return ops.cast(ops.equal(answers(logits), ops.cast(targets, "int32")), "float32")


def answers(logits):
    """The likeliest numbers, int32 `[batch, ...]`."""
    return ops.cast(ops.argmax(logits, axis=-1), "int32")

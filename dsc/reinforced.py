"""A `keras.Model` whose `fit` also trains the agents of its `DSCLSTM` layers."""

import functools
import operator
from collections.abc import Callable

import keras
from keras import ops

from dsc import losses
from dsc.layer import DSCLSTM, record_skips, recorded_skips
from dsc.recipes import BASELINES, CREDITS


@keras.saving.register_keras_serializable(package="dsc")
class Reinforced(keras.Model):
    """Trains the agents of all `DSCLSTM` layers in a model by REINFORCE, in `fit`.

    Use it in place of `keras.Model`. `compile`, `fit`, `evaluate`, `predict` and `save`
    work as usual, and a model without a `DSCLSTM` trains as `keras.Model` does. The
    layers are found wherever they are: nested, in `keras.layers.Bidirectional`, several
    of them.

    An action is rewarded by how well the model did: the reward is the negative loss,
    one for each sequence if the loss gives one number a sequence, and one for each step
    if the targets have a time axis. Sample weights and masks count. Where a loss per
    step has another number of steps than a layer, the layer gets the mean.

    If the agent does not learn, first try `credit="last"` for one answer a sequence,
    `baseline="standardised"` otherwise; see the manual, `dsc/README.md`.

    Args:
        *args: as for `keras.Model`, `inputs` and `outputs` of a functional model.
        baseline: subtracted from the rewards: `"mean"` of the other samples in the
            batch, `"standardised"` (divided by the standard deviation too), or
            `"none"`; see `dsc.losses.advantages`.
        rl_weight: weight of the policy loss.
        entropy_weight: weight of the policy's entropy, a bonus in the loss.
        credit: of a reward for a whole sequence: `"all"` actions get it, or only the
            `"last"`.
        reward: function of `(y, y_pred)` that returns rewards `[batch]` or `[batch,
            time]`, in place of the negative loss; or None.
        **kwargs: as for `keras.Model`.

    Raises:
        ValueError: an argument is out of its range, a `DSCLSTM` with an agent stands
            in `keras.layers.TimeDistributed`, or nothing rewards its agent.

    Example:

    >>> inputs = keras.Input((None,), dtype="int32")
    >>> x = keras.layers.Embedding(100, 16, mask_zero=True)(inputs)
    >>> outputs = keras.layers.Dense(2)(dsc.DSCLSTM(32, n_actions=5)(x))
    >>> model = dsc.Reinforced(inputs, outputs)
    >>> loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    >>> model.compile("adam", loss, metrics=["accuracy"])
    >>> history = model.fit(x_train, y_train)
    """

    def __init__(
        self,
        *args,
        baseline: str = "mean",
        rl_weight: float = 1.0,
        entropy_weight: float = 0.01,
        credit: str = "all",
        reward: Callable | None = None,
        **kwargs,
    ):
        super().__init__(*args, **kwargs)
        for name, value, known in (
            ("baseline", baseline, BASELINES),
            ("credit", credit, CREDITS),
        ):
            if value not in known:
                raise ValueError(f"{name} must be one of {known}, not {value!r}.")
        self.baseline = baseline
        self.rl_weight = float(rl_weight)
        self.entropy_weight = float(entropy_weight)
        self.credit = credit
        self.reward = reward
        self._policy_entropy = keras.metrics.Mean(name="policy_entropy")
        self._skip_length = keras.metrics.Mean(name="mean_skip_length")

    def make_train_function(self, force=False):
        if force or self.train_function is None:
            self._refuse_time_distributed()
        return super().make_train_function(force)

    def train_step(self, *args):
        with record_skips():
            return super().train_step(*args)

    def test_step(self, *args):
        with record_skips():
            return super().test_step(*args)

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        recorded = recorded_skips()
        if recorded:
            rewards, weights = self._rewards(y, y_pred, sample_weight)
            for call in recorded:
                policy_loss = self._policy_loss(call, rewards, weights, training)
                loss = loss + ops.cast(policy_loss, loss.dtype)
        return loss

    def _policy_loss(self, call, rewards, weights, training):
        """The weighted policy loss of one call of a layer; updates the metrics.

        Args:
            call: `dsc.layer.RecordedSkips`.
            rewards, weights: from `_rewards`.
            training: whether the loss is wanted, or only the metrics.
        """
        used = ops.cast(call.used, rewards.dtype)
        steps = rewards.shape[1], call.actions.shape[1]  # None: not known yet
        is_per_step = steps[0] != 1 and (steps[0] == steps[1] or None in steps)
        if not is_per_step and rewards.shape[1] != 1:
            total = ops.maximum(ops.sum(weights, axis=1, keepdims=True), 1e-9)
            rewards = ops.sum(rewards * weights, axis=1, keepdims=True) / total
            weights = ops.ones_like(rewards)
        if not is_per_step and self.credit == "last":
            # 1 at the last step that is used, 0 elsewhere.
            later = ops.flip(ops.cumsum(ops.flip(used, axis=1), axis=1), axis=1)
            used = used * ops.cast(later == 1, used.dtype)
        used = used * weights
        entropy = losses.entropy(call.logits)
        self._policy_entropy.update_state(entropy, used)
        self._skip_length.update_state(call.logits.shape[-1] - call.actions, used)
        if not training:
            return 0.0
        advantage = losses.advantages(rewards, self.baseline, mask=weights)
        policy_loss = losses.reinforce(call.logits, call.actions, advantage, used)
        bonus = self.entropy_weight * losses.masked_mean(entropy, used)
        return self.rl_weight * policy_loss - bonus

    def _rewards(self, y, y_pred, sample_weight):
        """`(rewards, weights)`, each `[batch, time]` or `[batch, 1]`."""
        # Under torch the targets are arrays of NumPy.
        y = keras.tree.map_structure(
            lambda part: None if part is None else ops.convert_to_tensor(part), y
        )
        if self.reward is not None:
            if keras.tree.is_nested(sample_weight):
                raise ValueError(
                    "A reward of your own takes one sample_weight, not one for each "
                    "output; leave it out, and weigh the outputs in the reward."
                )
            rewards = ops.convert_to_tensor(self.reward(y, y_pred), "float32")
            rewards = _columns(rewards)
            return ops.stop_gradient(rewards), _weights(rewards, sample_weight, y_pred)
        if self._compile_loss is None:
            raise ValueError(
                "The agent is rewarded by the loss of the model: give compile a loss, "
                "or Reinforced a reward."
            )
        rewards = []
        for path, loss, weight, _ in self._compile_loss._flat_losses:
            target, predicted, own_weight = (
                functools.reduce(operator.getitem, path, part)
                if keras.tree.is_nested(part)
                else part
                for part in (y, y_pred, sample_weight)
            )
            values = loss.call(target, predicted)
            while len(values.shape) > 2:
                values = ops.mean(values, axis=-1)
            values = ops.stop_gradient(losses.at_least_float32(_columns(values)))
            weights = _weights(values, own_weight, predicted)
            rewards.append((-(1.0 if weight is None else weight) * values, weights))
        longest = max(rewards, key=lambda pair: pair[0].shape[1] or 2)
        # Of several outputs those with one number a sequence reward every step.
        total = sum(pair[0] for pair in rewards)
        return total, ops.broadcast_to(longest[1], ops.shape(total))

    @property
    def metrics(self):
        """As in `keras.Model`; those of the policy only if there is an agent."""
        own = () if _has_agent(self) else (self._policy_entropy, self._skip_length)
        return [metric for metric in super().metrics if metric not in own]

    def _refuse_time_distributed(self):
        for layer in self._flatten_layers():
            if isinstance(layer, keras.layers.TimeDistributed) and _has_agent(layer):
                raise ValueError(
                    f"{layer.name}: the agent of a DSCLSTM in TimeDistributed cannot "
                    "be trained; reshape the inputs to [batch * n, time, features] and "
                    "use the layer without the wrapper."
                )

    def get_config(self):
        own = {name: getattr(self, name) for name in OPTIONS}
        if self.reward is not None:
            own["reward"] = keras.saving.serialize_keras_object(self.reward)
        return {**super().get_config(), **own}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        own = {name: config.pop(name) for name in OPTIONS}
        model = super().from_config(config, custom_objects)
        if own["reward"] is not None:
            own["reward"] = keras.saving.deserialize_keras_object(own["reward"])
        for name, value in own.items():
            setattr(model, name, value)
        return model


def _has_agent(layer):
    return any(
        isinstance(part, DSCLSTM) and part.cell.has_policy
        for part in layer._flatten_layers()
    )


OPTIONS = ("baseline", "rl_weight", "entropy_weight", "credit", "reward")


def _columns(x):
    """A tensor `[batch]` as `[batch, 1]`; others stay."""
    return x if len(x.shape) > 1 else x[:, None]


def _weights(values, sample_weight, predicted):
    """How much each value `[batch, time]` or `[batch, 1]` counts."""
    weights = ops.ones_like(values)
    # The masks of several outputs may differ.
    mask = None if keras.tree.is_nested(predicted) else _mask_of(predicted)
    for factor in (sample_weight, mask):
        if factor is not None:
            factor = _columns(ops.cast(factor, values.dtype))
            if factor.shape[1] in (1, values.shape[1]):
                weights = weights * factor
    return weights


class _Mask(keras.layers.Layer):
    """Returns the mask that Keras keeps with a tensor, or None."""

    def call(self, tensor, mask=None):
        return mask

    def compute_mask(self, tensor, previous_mask=None):
        return None  # without it, Keras warns that the layer drops the mask


_mask_of = _Mask(name="mask")

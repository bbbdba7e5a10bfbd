"""REINFORCE as pure functions of tensors, for any training loop.

Williams, "Simple statistical gradient-following algorithms for connectionist
reinforcement learning", 1992; paper, "Training Methods". A policy loss is built as

    loss = reinforce(logits, actions, advantage) - weight * mean(entropy(logits))

Rewards `[batch, time]` (or `[batch, 1]`, one for each sequence) become advantages by
`reward_to_go` and `advantages`. Only the logits receive gradients. Where the reward of
every action is known, `exact` takes the place of `reinforce`.
"""

import keras
from keras import ops

from dsc.recipes import BASELINES, LEARNED


def at_least_float32(x):
    """Casts half precision to float32, which losses need."""
    return ops.cast(x, keras.backend.result_type(x.dtype, "float32"))


def log_prob(logits, actions):
    """Log-probability of the actions that were taken, by log-softmax.

    Args:
        logits: `[..., n_actions]`, unnormalised log-probabilities.
        actions: `[...]`, integers in `[0, n_actions)`.

    Returns:
        `[...]`, in nats.
    """
    log_probs = ops.log_softmax(at_least_float32(logits), axis=-1)
    chosen = ops.cast(actions, "int32")[..., None]
    return ops.take_along_axis(log_probs, chosen, axis=-1)[..., 0]


def entropy(logits):
    """Entropy of the policy.

    Args:
        logits: `[..., n_actions]`, unnormalised log-probabilities.

    Returns:
        `[...]`, in nats, between 0 (certain) and ln(n_actions) (uniform).
    """
    log_probs = ops.log_softmax(at_least_float32(logits), axis=-1)
    return -ops.sum(ops.exp(log_probs) * log_probs, axis=-1)


def reward_to_go(rewards):
    """Sum of the rewards from each step to the last one.

    An action cannot change earlier rewards, so leaving them out lowers the variance of
    the gradient and not its mean (release: `language_modeling`, the sum over s >= t).

    Args:
        rewards: `[batch, time]`.

    Returns:
        `[batch, time]`.
    """
    return ops.flip(ops.cumsum(ops.flip(rewards, axis=1), axis=1), axis=1)


def advantages(returns, baseline="mean", epsilon=1e-6, mask=None):
    """Subtracts a baseline from the returns, which lowers the gradient's variance.

    The mean leaves out a row's own return, so the expected gradient is unchanged (Kool
    et al., "Buy 4 REINFORCE samples, get a baseline for free!", 2019). A batch of one
    row has no baseline.

    Args:
        returns: `[batch, ...]`.
        baseline: `"none"`; `"mean"`, the mean of the other rows at the same step; or
            `"standardised"`, which also divides by the standard deviation over the
            batch: biased, but independent of the scale of the rewards. `"value"` is
            `"mean"` here, from which `value_advantages` goes on.
        epsilon: added to the standard deviation.
        mask: weights of the same shape, 0 where a return does not count, or None.

    Returns:
        `[batch, ...]`, of the same dtype.

    Raises:
        ValueError: `baseline` is unknown.
    """
    known = (*BASELINES, LEARNED)
    if baseline not in known:
        raise ValueError(f"baseline must be one of {known}, not {baseline!r}.")
    if baseline == "none":
        return returns
    if mask is None:
        size = ops.cast(ops.shape(returns)[0], returns.dtype)
        own, counted = 1.0, returns
    else:
        own = ops.cast(ops.cast(mask, "bool"), returns.dtype)
        size, counted = ops.sum(own, axis=0, keepdims=True), own * returns
    total = ops.sum(counted, axis=0, keepdims=True)
    difference = returns - (total - counted) / ops.maximum(size - own, 1.0)
    if baseline in ("mean", LEARNED):
        return difference
    if mask is None:
        deviation = ops.std(returns, axis=0, keepdims=True) + epsilon
    else:
        squares = own * ops.square(returns - total / ops.maximum(size, 1.0))
        variance = ops.sum(squares, axis=0, keepdims=True) / ops.maximum(size, 1.0)
        deviation = ops.sqrt(variance) + epsilon
    return difference / ops.where(size > 1.0, deviation, ops.ones_like(deviation))


def value_advantages(advantage, values):
    """Subtracts a learned baseline from advantages over the mean.

    Args:
        advantage, values: `[batch, time]`, or shapes that broadcast to it; the values
            are those that `dsc.value.Value` predicted.

    Returns:
        `(advantages, scalar loss of the prediction)`; no gradient passes from the
        advantages to the values. The loss is a quarter of the mean squared error, whose
        curvature is at most 1 in the weights of `Value`.
    """
    rest = ops.stop_gradient(advantage) - values
    return ops.stop_gradient(rest), 0.25 * ops.mean(ops.square(rest))


def reinforce(logits, actions, advantage, mask=None):
    """Policy loss: the mean of -log pi(a) * advantage.

    Its gradient is the REINFORCE estimate of the policy gradient.

    Args:
        logits: `[batch, time, n_actions]`.
        actions: `[batch, time]`.
        advantage: `[batch, time]`, or a shape that broadcasts to it; no gradient
            passes through it.
        mask: `[batch, time]`, how much each step counts: weights, or boolean; or None.

    Returns:
        Scalar, the mean over the steps that count.
    """
    log_probs, advantage = log_prob(logits, actions), ops.stop_gradient(advantage)
    if mask is None:
        return -ops.mean(log_probs * advantage)
    counts = ops.cast(mask, "bool")
    advantage = ops.where(counts, advantage, ops.zeros_like(advantage))  # may be NaN
    return -masked_mean(log_probs * advantage, mask)


def exact(logits, rewards, mask=None):
    """Policy loss without sampling: minus the mean of the expected reward.

    Its gradient is the expectation, under the policy, of that of `reinforce` with these
    rewards as advantages. It needs no baseline.

    Args:
        logits: `[..., n_actions]`.
        rewards: `[..., n_actions]`, that of each action; no gradient passes through it.
        mask: `[...]`, see `reinforce`.

    Returns:
        Scalar, the mean over the steps that count.
    """
    policy = ops.softmax(at_least_float32(logits), axis=-1)
    rewards = ops.stop_gradient(rewards)
    if mask is None:
        return -ops.mean(ops.sum(policy * rewards, axis=-1))
    counts = ops.cast(mask, "bool")[..., None]
    rewards = ops.where(counts, rewards, ops.zeros_like(rewards))  # may be NaN
    return -masked_mean(ops.sum(policy * rewards, axis=-1), mask)


def masked_mean(x, mask):
    """The mean of `x`, weighted by `mask`; 0 if nothing counts."""
    mask = ops.cast(mask, x.dtype)
    total = ops.sum(mask)
    return ops.sum(mask * x) / ops.where(total > 0, total, ops.ones_like(total))

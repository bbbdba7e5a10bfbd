"""REINFORCE as pure functions of tensors, for any training loop.

Williams, "Simple statistical gradient-following algorithms for connectionist
reinforcement learning", 1992; paper, "Training Methods". A policy loss is built as

    loss = reinforce(logits, actions, advantage) - weight * mean(entropy(logits))

where the advantages come from rewards `[batch, time]` (or `[batch, 1]`, one reward
for a whole sequence) by way of `reward_to_go` and `advantages`, as the task asks.
Gradients reach the logits only.
"""

import keras
from keras import ops

from dsc.recipes import BASELINES


def at_least_float32(x):
    """What comes in half precision, for which a loss is too fine, as float32."""
    dtype = keras.backend.standardize_dtype(x.dtype)
    return ops.cast(x, "float32") if dtype in ("float16", "bfloat16") else x


def log_prob(logits, actions):
    """Log-probability of the actions that were taken.

    Computed by log-softmax: finite wherever the dtype holds the logits' differences.

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

    An action cannot change what was earned before it, so leaving that out lowers the
    variance and not the mean (release: `language_modeling`, the sum over s >= t).

    Args:
        rewards: `[batch, time]`.

    Returns:
        `[batch, time]`.
    """
    return ops.flip(ops.cumsum(ops.flip(rewards, axis=1), axis=1), axis=1)


def advantages(returns, baseline="mean", epsilon=1e-6):
    """Returns less a baseline that lowers the variance of the policy gradient.

    A row's own return is left out of the mean, so that the gradient's mean stays
    exactly what it is without one (Kool et al., "Buy 4 REINFORCE samples, get a
    baseline for free!", 2019). With one row there are no others, and the returns
    stay as they are.

    Args:
        returns: `[batch, ...]`.
        baseline: `"none"`; `"mean"`, that of the other rows at the same step; or
            `"standardised"`, which also divides by the standard deviation over the
            batch: no longer exact, but independent of the reward's scale.
        epsilon: added to the standard deviation.

    Returns:
        `[batch, ...]`, of the same dtype.

    Raises:
        ValueError: there is no such baseline.
    """
    if baseline not in BASELINES:
        raise ValueError(f"baseline must be one of {BASELINES}, not {baseline!r}.")
    if baseline == "none":
        return returns
    size = ops.cast(ops.shape(returns)[0], returns.dtype)
    total = ops.sum(returns, axis=0, keepdims=True)
    difference = returns - (total - returns) / ops.maximum(size - 1.0, 1.0)
    if baseline == "mean":
        return difference
    deviation = ops.std(returns, axis=0, keepdims=True) + epsilon
    return difference / ops.where(size > 1.0, deviation, ops.ones_like(deviation))


def reinforce(logits, actions, advantage, mask=None):
    """Loss whose gradient is the REINFORCE estimate: mean of -log pi(a) * advantage.

    Args:
        logits: `[batch, time, n_actions]`.
        actions: `[batch, time]`.
        advantage: `[batch, time]`, or anything that broadcasts to it; taken as
            constants.
        mask: `[batch, time]` boolean, False where a step does not count, or None.

    Returns:
        Scalar: the mean over batch and time, as far as they count.
    """
    log_probs, advantage = log_prob(logits, actions), ops.stop_gradient(advantage)
    if mask is None:
        return -ops.mean(log_probs * advantage)
    mask = ops.cast(mask, "bool")
    advantage = ops.where(mask, advantage, ops.zeros_like(advantage))
    n_steps = ops.sum(ops.cast(mask, log_probs.dtype))
    return -ops.sum(log_probs * advantage) / ops.maximum(n_steps, 1.0)

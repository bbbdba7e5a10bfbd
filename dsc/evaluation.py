"""Which states a model continues from in evaluation: `--eval_actions`.

- `greedy`: the agent's likeliest.
- `sample`: drawn from the policy.
- `newest`: always the newest, as an LSTM.
- `mean:N`: N sampled passes, each with its own recurrent state, whose probabilities are
  averaged. The passes stand one after another in the batch: `[N * batch, ...]`.
"""

import math

from keras import ops

from dsc.cell import FORCED_LOGIT
from dsc.losses import at_least_float32


def n_passes(eval_actions):
    """N of `mean:N`, else 1."""
    return int(eval_actions.partition(":")[2] or 1)


def noise(eval_actions, shape, draw):
    """The noise for the agent's logits, or None for the greedy choice.

    Args:
        eval_actions: see the module.
        shape: `[n_passes * batch, ..., n_actions]`.
        draw: function that returns Gumbel noise of a shape.
    """
    if eval_actions == "greedy":
        return None
    if eval_actions != "newest":
        return draw(shape)
    newest = ops.one_hot(shape[-1] - 1, shape[-1])
    # Twice: a fixed skip forces the oldest state.
    return ops.broadcast_to(2.0 * FORCED_LOGIT * newest, shape)


def mean_over_passes(logits, n):
    """Logits of the mean probabilities of n passes.

    Args:
        logits: `[n * batch, ..., classes]`.
        n: number of passes.

    Returns:
        `[batch, ..., classes]`: the logits themselves if n is 1.
    """
    if n == 1:
        return logits
    log_probs = ops.log_softmax(at_least_float32(logits), axis=-1)
    log_probs = ops.reshape(log_probs, (n, -1, *logits.shape[1:]))
    return ops.logsumexp(log_probs, axis=0) - math.log(n)

"""What is told of a language model, from its word losses and choices."""

import math


def perplexity(nll):
    """exp of a mean word loss in nats; infinite when a float cannot hold it."""
    try:
        return math.exp(nll)
    except OverflowError:
        return math.inf


def describe_skips(shares):
    """`1: 0.25, 2: 0.40, ...`: how often each skip length was chosen, shortest first.

    Args:
        shares: `[n_actions]`, share of each action, oldest state first.
    """
    return " ".join(f"{k}: {share:.2f}" for k, share in enumerate(shares[::-1], 1))

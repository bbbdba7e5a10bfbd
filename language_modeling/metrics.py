"""What is told of a language model, from its word losses and choices."""

import math
from typing import NamedTuple

import numpy as np

TOLD = 5  # skip lengths that are told one by one


class Evaluation(NamedTuple):
    """How a model does on a text.

    Attributes:
        perplexity: exp of the mean word loss.
        actions: `[n_actions]`, how often each was chosen, oldest state first.
    """

    perplexity: float
    actions: np.ndarray


def evaluation(windows, n_actions):
    """The `Evaluation` of what a model did on the windows of a text.

    Args:
        windows: iterable of `(word losses, actions, scored)`, each an array
            `[batch, time]`; only what is scored counts.
        n_actions: number of actions.
    """
    total, n_words = 0.0, 0
    counts = np.zeros(n_actions)
    for nll, actions, scored in windows:
        total += float(np.sum(nll[scored], dtype=np.float64))
        n_words += np.count_nonzero(scored)
        counts += np.bincount(actions[scored], minlength=n_actions)
    return Evaluation(perplexity(total / n_words), counts / n_words)


def perplexity(nll):
    """exp of a mean word loss in nats; infinite when a float cannot hold it."""
    try:
        return math.exp(nll)
    except OverflowError:
        return math.inf


def by_length(n):
    """Skip lengths 1..n as they are told: one by one, and beyond `TOLD` together.

    Returns:
        List of `(text, slice)`, the slice of what begins with a skip of 1.
    """
    found = [(str(k), slice(k - 1, k)) for k in range(1, min(n, TOLD) + 1)]
    return found + [(f"{TOLD + 1}+", slice(TOLD, n))] * (n > TOLD)


def describe_skips(shares):
    """`1: 0.25 2: 0.40 ...`: how often each skip length was chosen, shortest first.

    Args:
        shares: `[n_actions]`, share of each action, oldest state first.
    """
    lengths = by_length(len(shares))
    return " ".join(f"{k}: {shares[::-1][part].sum():.2f}" for k, part in lengths)


def record(metrics):
    """What is logged of the mean metrics of some training steps (NumPy)."""
    return {**metrics, "perplexity": perplexity(metrics["nll"])}


def describe(record):
    """A report's text from a `record`."""
    return (
        f"loss {record['loss']:#.4g}, perplexity {record['perplexity']:#.4g}, "
        f"entropy {record['entropy']:.2f}"
    )

"""Perplexity, bits per character and the distribution of skips."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

N_LENGTHS = 5  # skip lengths that are listed separately


class Level(NamedTuple):
    """What texts consist of, and how a model of them is scored; see `LEVELS`."""

    unit: str
    score: str  # its name
    label: str  # the name in progress reports, where there is little room
    of_perplexity: Callable  # turns a perplexity into the score


LEVELS = {  # by the value of --level
    "word": Level("words", "perplexity", "perplexity", float),
    "char": Level("characters", "bits per character", "bits", math.log2),
}


class Evaluation(NamedTuple):
    """Results of a model on a text.

    Attributes:
        perplexity: exp of the mean word loss.
        actions: `[n_actions]`, share of each action, oldest state first.
    """

    perplexity: float
    actions: np.ndarray


def evaluation(windows, n_actions):
    """The `Evaluation` of a text.

    Args:
        windows: iterable of `(word losses, actions, scored)`, each an array
            `[batch, time]`; only scored words count.
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
    """exp of a mean word loss in nats; infinite if it overflows."""
    try:
        return math.exp(nll)
    except OverflowError:
        return math.inf


def by_length(n):
    """`(label, slice)` of skip lengths 1..n; those beyond `N_LENGTHS` share one."""
    found = [(str(k), slice(k - 1, k)) for k in range(1, min(n, N_LENGTHS) + 1)]
    return found + [(f"{N_LENGTHS + 1}+", slice(N_LENGTHS, n))] * (n > N_LENGTHS)


def describe_skips(shares):
    """`1: 0.25 2: 0.40 ...`: the share of each skip length.

    Args:
        shares: `[n_actions]`, share of each action, oldest state first.
    """
    lengths = by_length(len(shares))
    return " ".join(f"{k}: {shares[::-1][part].sum():.2f}" for k, part in lengths)


def record(metrics, level="word"):
    """The log record of the mean metrics of some training steps (NumPy)."""
    names = LEVELS[level]
    return {**metrics, names.score: names.of_perplexity(perplexity(metrics["nll"]))}


def describe(record, level="word"):
    """The text of a progress report."""
    names = LEVELS[level]
    return (
        f"loss {record['loss']:#.4g}, {names.label} {record[names.score]:#.4g}, "
        f"entropy {record['entropy']:.2f}"
    )

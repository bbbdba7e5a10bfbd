"""Whether the agent looks back to the word that determines the next one.

The grammar of the embedded corpus says which earlier word determines each verb and each
closing bracket (`grammar.deciders`). When the model reads word t of the text, ends of
lines included, it predicts word t + 1, and a skip of k continues from the state after
word t - k. If word t + 1 is determined by word d, the skip lands if t - k = d.

A word t + 1 counts if it is scored and a skip of more than one step can reach the state
after d: 2 <= t - d <= n_actions, and that state is in the memory, which means in the
same row and, unless memory is carried, in the same window. Words with t - d = 1 do not
count, since there an ordinary LSTM step lands. An agent may do well without landing: a
state may contain what an earlier skip reached.
"""

from typing import NamedTuple

import numpy as np

from language_modeling import metrics
from language_modeling.agreement import grammar

LAND, BY_CHANCE = "skips that land", "skips that land by chance"  # names of scores


class GrammarFacts(NamedTuple):
    """What the grammar says about the test split of the embedded corpus.

    Attributes:
        floor: its lowest possible perplexity.
        deciders: int `[words]`, see `deciders`.
    """

    floor: float
    deciders: np.ndarray


def deciders(sentences):
    """The position of the word that determines each word of a text.

    Args:
        sentences: the text, each sentence a list of words without its end.

    Returns:
        int `[words]`, ends of sentences included; -1 for words that none determines.

    Raises:
        ValueError: a sentence is not grammatical; see `grammar.score`.
    """
    found = []
    for sentence in sentences:
        start = len(found)
        found += [
            -1 if decider is None else start + decider
            for decider in grammar.deciders(sentence)
        ]
    return np.array(found)


def count(read, windows, deciders, n_actions, carry_memory):
    """Counts words by the skip that would land and the skip that was taken.

    Args:
        read: iterable of `(word losses, actions, scored)`, each `[batch, time]`: the
            model's results on all windows, in order.
        windows: `corpora.Windows` of the text.
        deciders: int `[words]` of the text, from `deciders`.
        n_actions: number of actions.
        carry_memory: whether a window can look back into the one before.

    Returns:
        int `[n_actions + 1, n_actions + 1]`: the number of words by t - d (row) and
        skip taken (column); see the module.
    """
    counts = np.zeros((n_actions + 1, n_actions + 1), int)
    for i, (_, actions, scored) in enumerate(read):
        position, _ = windows.positions(i)
        decider = deciders[position + 1]
        distance = position - decider
        # The memory is empty at the start of a window, or only at that of a row.
        remembered = np.arange(windows.n_steps) + i * windows.n_steps * carry_memory
        reach = np.minimum(remembered, n_actions)
        counted = scored & (decider >= 0) & (distance >= 2) & (distance <= reach)
        np.add.at(counts, (distance[counted], (n_actions - actions)[counted]), 1)
    return counts


def scores(counts):
    """The share of skips that land, and the share if skips were independent of words.

    Args:
        counts: from `count`.

    Returns:
        Dict from name to number, empty if no word counts.
    """
    n = counts.sum()
    if not n:
        return {}
    needed, taken = counts.sum(axis=1), counts.sum(axis=0)
    return {
        LAND: float(counts.trace() / n),
        BY_CHANCE: float(needed @ taken / n**2),
    }


def describe(counts):
    """Lines with the share of skips that land, in total and by needed length.

    Args:
        counts: from `count`.

    Returns:
        List of two lines, empty if no word counts.
    """
    found = scores(counts)
    if not found:
        return []
    needed, landed = counts.sum(axis=1), np.diag(counts)
    by_length = " ".join(
        f"{k}: {landed[1:][part].sum() / n_part:.2f} of {n_part}"
        for k, part in metrics.by_length(len(needed) - 1)
        if (n_part := needed[1:][part].sum())
    )
    return [
        f"test skips that land on the word that decides = {found[LAND]:.4f} of "
        f"{counts.sum()} ({found[BY_CHANCE]:.4f} by chance)",
        f"test skips that land, by needed length = {by_length}",
    ]

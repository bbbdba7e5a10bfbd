"""Does the agent look back to the word that decides the next one?

The grammar of the embedded corpus says which earlier word decides each verb and each
closing bracket (`agreement.deciders`). Reading word t of the text, ends of lines among
its words, the model predicts word t + 1, and a skip of k continues from the state that
word t - k left behind. If word t + 1 is decided by word d, the skip lands if t - k = d.

Counted are the words t + 1 that are scored and whose d a skip of more than one word
can reach at step t: 2 <= t - d <= n_actions, and the memory holds the state that d
left, in the same row and, unless memory is carried, in the same window. For t - d = 1
the ordinary step of an LSTM lands, and an agent that takes no other would seem to know
where to look; for t = d there is nothing to look back to. An agent may do well without
landing: a state may have brought along what an earlier skip reached.
"""

import numpy as np

from language_modeling import metrics
from language_modeling.agreement import grammar

LAND, BY_CHANCE = "skips that land", "skips that land by chance"  # names of scores


def deciders(sentences):
    """The word of a text that decides each of its words.

    Args:
        sentences: the text, each sentence a list of words without its end.

    Returns:
        int `[words]`, ends of sentences among them: the place in the text of the word
        that decides, or -1 where none does.

    Raises:
        ValueError: a sentence is not of the language; see `agreement.score`.
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
    """Counts words by where the word that decides lies and where the agent looked.

    Args:
        read: iterable of `(word losses, actions, scored)`, each `[batch, time]`: what a
            model did on all windows of a text, in order.
        windows: `reader.Windows` of the text.
        deciders: int `[words]` of the text, from `deciders`.
        n_actions: number of actions.
        carry_memory: whether a window can look back into the one before.

    Returns:
        int `[n_actions + 1, n_actions + 1]`: how many of the words that count have
        t - d = row and were predicted after a skip of column; see the module.
    """
    counts = np.zeros((n_actions + 1, n_actions + 1), int)
    for i, (_, actions, scored) in enumerate(read):
        place, _ = windows.places(i)
        decider = deciders[place + 1]
        distance = place - decider
        # The memory is empty at the beginning of a window, or only at that of a row.
        remembered = np.arange(windows.n_steps) + i * windows.n_steps * carry_memory
        reach = np.minimum(remembered, n_actions)
        counted = scored & (decider >= 0) & (distance >= 2) & (distance <= reach)
        np.add.at(counts, (distance[counted], (n_actions - actions)[counted]), 1)
    return counts


def scores(counts):
    """The share of skips that land, and the share that would land by chance.

    By chance as many would land if the same skips did not depend on the word.

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
    """Two lines that say how many skips land, of all and by the length that it takes.

    Args:
        counts: from `count`.

    Returns:
        List of lines, empty if no word counts.
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
        f"test skips that land, by the length that it takes = {by_length}",
    ]

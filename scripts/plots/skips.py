"""The sentences of a text as a model read them."""

import collections
import itertools
from typing import NamedTuple

from language_modeling.inference import scoring


class Sentence(NamedTuple):
    """A sentence and the words before it."""

    context: tuple  # of the last n_actions words before it, or fewer if there are fewer
    words: tuple  # of `scoring.Scored`, including the end of its line


def of_text(scored, end, n_actions, first=0, count=None):
    """Yields `Sentence`s of a text.

    Args:
        scored: iterable of `scoring.Scored`; only as much as needed is read.
        end: the word that marks the end of a line.
        n_actions: K, how many words back a skip may lead.
        first: number of the first sentence, from 0.
        count: the largest number of sentences, or None.
    """
    context = collections.deque(maxlen=n_actions)
    last = None if count is None else first + count
    found = itertools.islice(scoring.sentences(scored, end), last)
    for number, words in enumerate(found):
        if number >= first:
            yield Sentence(tuple(context), tuple(words))
        context.extend(row.read_as for row in words)

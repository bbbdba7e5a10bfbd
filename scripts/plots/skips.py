"""The sentences of a text as a model read them, each with the words before it."""

import collections
import itertools
from typing import NamedTuple

from language_modeling.inference import scoring


class Sentence(NamedTuple):
    """A sentence as a model read it, in the course of its text.

    Attributes:
        context: the words before it that can be looked back to, at most n_actions; if
            fewer, there were no more.
        words: tuple of `scoring.Scored`.
    """

    context: tuple
    words: tuple


def of_text(scored, end, n_actions, first=0, count=None):
    """Some sentences of a text.

    Args:
        scored: iterable of `scoring.Scored`, read no further than needed.
        end: the word that stands for the end of a line.
        n_actions: how many words back a skip may lead.
        first: number of the first sentence, from 0.
        count: how many at most, or None for all.

    Yields:
        `Sentence`, with the end of its line.
    """
    context = collections.deque(maxlen=n_actions)
    last = None if count is None else first + count
    found = itertools.islice(scoring.sentences(scored, end), last)
    for number, words in enumerate(found):
        if number >= first:
            yield Sentence(tuple(context), tuple(words))
        context.extend(row.read_as for row in words)

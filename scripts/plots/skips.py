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
    """Yields the `Sentence`s of a text from number `first` on, `count` at most.

    `scored` is an iterable of `scoring.Scored`, of which no more than needed is read;
    `end` is the word that marks the end of a line.
    """
    context = collections.deque(maxlen=n_actions)
    last = None if count is None else first + count
    found = itertools.islice(scoring.sentences(scored, end), last)
    for number, words in enumerate(found):
        if number >= first:
            yield Sentence(tuple(context), tuple(words))
        context.extend(row.read_as for row in words)

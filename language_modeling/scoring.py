"""Word by word: how likely the model found each, and where it looked back to."""

from typing import NamedTuple

import numpy as np

from language_modeling.evaluation import Evaluator
from language_modeling.measures import perplexity


class Scored(NamedTuple):
    """A word that was read.

    Attributes:
        word: as it stands in the text.
        read_as: as the model knows it.
        log_prob: its log-probability in nats, given the words before it; None for the
            first, which has none.
        skip: how many words back lies the state from which the LSTM continued when it
            read this word: 1 is an ordinary LSTM step, 0 a place in the memory in which
            there was nothing yet, zeros. Of attention, the state with most weight.
    """

    word: str
    read_as: str
    log_prob: float | None
    skip: int


class Scorer:
    """Scores a text of any length as evaluation does, one window in memory at a time.

    One stream in windows of `n_steps` words: the perplexity is that of
    `reader.all_windows` with one row.

    Args:
        trained: `Trained`.
        n_steps: words per window.
        unknown: see `Trained.encode`; dropped words are not scored.
        actions, seed: see `Evaluator`.

    Attributes:
        n_words: how many words have a log-probability so far.
        n_unknown: how many words were unknown so far.
    """

    def __init__(self, trained, n_steps, unknown="drop", actions="greedy", seed=0):
        self.trained = trained
        self.n_steps = n_steps
        self.unknown = unknown
        self.n_words = 0
        self.n_unknown = 0
        self._total = 0.0
        self._evaluator = Evaluator(trained.model, actions, seed)
        self._words = []  # those of the window that is being read

    @property
    def perplexity(self):
        """exp of the mean word loss so far; NaN before the second word."""
        return perplexity(self._total / self.n_words if self.n_words else np.nan)

    def score(self, words):
        """Yields a `Scored` for each word that is read.

        Args:
            words: iterable of words, ends of lines among them.
        """
        log_prob = None
        windows = self._windows(words)
        for i, (nll, actions, scored) in enumerate(self._evaluator.run(windows)):
            self._total += float(np.sum(nll[scored], dtype=np.float64))
            self.n_words += np.count_nonzero(scored)
            skips = self._skips(i, actions[0])
            for (word, read_as), word_nll, skip in zip(
                self._words, nll[0], skips, strict=False
            ):
                yield Scored(word, self.trained.vocabulary[read_as], log_prob, skip)
                log_prob = -float(word_nll)

    def _windows(self, words):
        """The windows of `reader.all_windows`, but that the last word is read too."""
        self._words = []
        for word in words:
            read_as = self.trained.encode(word, self.unknown)
            if read_as is None or self.trained.vocabulary[read_as] != word:
                self.n_unknown += 1
            if read_as is None:
                continue
            self._words.append((word, read_as))
            if len(self._words) == self.n_steps + 1:
                newest = self._words.pop()
                yield self._window(newest[1])
                self._words = [newest]
        if self._words:
            yield self._window(None)

    def _window(self, newest):
        ids = [read_as for _, read_as in self._words]
        targets = ids[1:] if newest is None else [*ids[1:], newest]
        steps = np.zeros((3, 1, self.n_steps), np.int32)
        steps[0, 0, : len(ids)] = ids
        steps[1, 0, : len(targets)] = targets
        steps[2, 0, : len(targets)] = 1
        return steps[0], steps[1], steps[2].astype(bool)

    def _skips(self, i, actions):
        dsc = self.trained.model.dsc
        skips = dsc.n_actions - actions
        remembered = np.arange(self.n_steps)
        if dsc.carry_memory:
            remembered += i * self.n_steps
        else:
            # The first step of a window continues from the last state of all.
            skips[0], remembered[0] = 1, i > 0
        return np.where(skips <= remembered, skips, 0)

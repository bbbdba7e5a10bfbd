"""Word by word: how likely the model found each, and where it looked back to."""

from typing import NamedTuple

import numpy as np
from keras import ops

from language_modeling.evaluation import Evaluator
from language_modeling.metrics import perplexity

N_GUESSES = 5


class Scored(NamedTuple):
    """A word of a text.

    Attributes:
        word: as it stands in the text.
        read_as: as the model knows it; None if it was dropped, and then the fields
            below have their defaults.
        log_prob: its log-probability in nats, given the words before it; None for the
            first, which has none.
        skip: how many words back lies the state from which the LSTM continued when it
            read this word: 1 is an ordinary LSTM step, 0 a place in the memory in which
            there was nothing yet, zeros. Of attention, the state with most weight.
        policy: dict from each possible skip to the agent's probability of it.
        guesses: `(word, probability)` of the words that the model found likeliest here.
    """

    word: str
    read_as: str | None = None
    log_prob: float | None = None
    skip: int | None = None
    policy: dict | None = None
    guesses: tuple = ()


class Scorer:
    """Scores a text of any length as evaluation does, one window in memory at a time.

    One stream in windows of `n_steps` words: the perplexity is that of
    `corpora.all_windows` with one row.

    Args:
        trained: `TrainedModel`.
        n_steps: words per window, dropped ones not counted.
        unknown: see `TrainedModel.encode`.
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
        self._evaluator = _DetailedEvaluator(trained.model, actions, seed)
        self._words = []  # those of the window that is being read

    @property
    def perplexity(self):
        """exp of the mean word loss so far; NaN before the second word."""
        return perplexity(self._total / self.n_words if self.n_words else np.nan)

    def score(self, words):
        """Yields a `Scored` for each word.

        Args:
            words: iterable of words, ends of lines among them.
        """
        vocabulary = self.trained.vocabulary
        log_prob, guesses = None, ()
        windows = self._evaluator.run(self._windows(words))
        for i, (nll, actions, policy, probs, ids, scored) in enumerate(windows):
            self._total += float(np.sum(nll[scored], dtype=np.float64))
            self.n_words += np.count_nonzero(scored)
            step = 0
            for word, read_as in self._words:
                if read_as is None:
                    yield Scored(word)
                    continue
                choice = self._choice(i, step, actions[0, step], policy[0, step])
                yield Scored(word, vocabulary[read_as], log_prob, *choice, guesses)
                log_prob = -float(nll[0, step])
                guesses = tuple(
                    (vocabulary[guess], float(prob))
                    for guess, prob in zip(ids[0, step], probs[0, step], strict=True)
                )
                step += 1

    def _windows(self, words):
        """The windows of `corpora.all_windows`, but that the last word is read too."""
        self._words, ids = [], []
        for word in words:
            read_as = self.trained.encode(word, self.unknown)
            if read_as is None or self.trained.vocabulary[read_as] != word:
                self.n_unknown += 1
            if read_as is not None:
                ids.append(read_as)
                if len(ids) > self.n_steps:
                    yield self._window(ids)
                    self._words, ids = [], [read_as]
            self._words.append((word, read_as))
        if self._words:
            yield self._window(ids)

    def _window(self, ids):
        words, targets = ids[: self.n_steps], ids[1:]
        steps = np.zeros((3, 1, self.n_steps), np.int32)
        steps[0, 0, : len(words)] = words
        steps[1, 0, : len(targets)] = targets
        steps[2, 0, : len(targets)] = 1
        return steps[0], steps[1], steps[2].astype(bool)

    def _choice(self, i, step, action, policy):
        """`(skip, policy)` of a step of window i, as `Scored` has them."""
        dsc = self.trained.model.dsc
        skip, policy = dsc.n_actions - int(action), policy[::-1].tolist()
        reach = step
        if dsc.carry_memory:
            reach += i * self.n_steps
        elif i and not step:
            # The first step of a window continues from the last state of all.
            skip, policy, reach = 1, [1.0], 1
        outcomes = dict(enumerate(policy[:reach], 1))
        if nothing := policy[reach:]:
            outcomes[0] = sum(nothing)
        return (skip if skip <= reach else 0), outcomes


class _DetailedEvaluator(Evaluator):
    """Also yields the policy, and probabilities and ids of the likeliest next words."""

    def details(self, outputs):
        probs = ops.softmax(ops.cast(outputs.logits, "float32"))
        n_guesses = min(N_GUESSES, probs.shape[-1])
        policy = ops.softmax(ops.cast(outputs.skips.logits, "float32"))
        return policy, *ops.top_k(probs, n_guesses)


def sentences(scored, end):
    """Yields the sentences of a text, lists of the words that were read.

    Args:
        scored: iterable of `Scored`.
        end: the word that stands for the end of a line, the last of a sentence.
    """
    sentence = []
    for row in scored:
        if row.read_as is not None:
            sentence.append(row)
        if row.word == end and sentence:
            yield sentence
            sentence = []
    if sentence:
        yield sentence

"""Log-probability and skip of each word of a text."""

from typing import NamedTuple

import numpy as np
from keras import ops

from language_modeling.evaluation import Evaluator
from language_modeling.metrics import perplexity

N_GUESSES = 5


class Scored(NamedTuple):
    """A word of a text.

    Attributes:
        word: as in the text.
        read_as: the word of the vocabulary that it was read as; None if it was dropped,
            and then the fields below have their defaults.
        log_prob: log-probability in nats given the words before; None for the first.
        skip: how many words back the state lies that the LSTM continued from to read
            this word: 1 is an ordinary LSTM step, 0 an empty slot of the memory
            (zeros). With attention, the state with the largest weight.
        policy: dict from each possible skip to the agent's probability of it.
        guesses: `(word, probability)` of the likeliest words here.
    """

    word: str
    read_as: str | None = None
    log_prob: float | None = None
    skip: int | None = None
    policy: dict | None = None
    guesses: tuple = ()


class Scorer:
    """Scores a text of any length, with one window in memory at a time.

    The perplexity is that of `corpora.all_windows` with one row.

    Args:
        trained: `TrainedModel`.
        n_steps: words per window, without dropped ones.
        unknown: see `TrainedModel.encode`.
        actions, seed: see `Evaluator`.

    Attributes:
        n_words: number of words with a log-probability so far.
        n_unknown: number of unknown words so far.
    """

    def __init__(self, trained, n_steps, unknown="drop", actions="greedy", seed=0):
        self.trained = trained
        self.n_steps = n_steps
        self.unknown = unknown
        self.n_words = 0
        self.n_unknown = 0
        self._total = 0.0
        self._evaluator = _DetailedEvaluator(trained.model, actions, seed)
        self._words = []  # `(word, id or None)` of the current window

    @property
    def perplexity(self):
        """exp of the mean word loss so far; NaN before the second word."""
        return perplexity(self._total / self.n_words if self.n_words else np.nan)

    def score(self, words):
        """Yields a `Scored` for each word; ends of lines are words."""
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
        """The windows of `corpora.all_windows`, with the last word as input too."""
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
        padded = np.zeros((1, self.n_steps + 1), np.int32)
        padded[0, : len(ids)] = ids
        scored = np.arange(self.n_steps) < len(ids) - 1
        return padded[:, :-1], padded[:, 1:], scored[None]

    def _choice(self, i, step, action, policy):
        """`(skip, policy)` of a step of window i; see `Scored`."""
        dsc = self.trained.model.dsc
        skip, policy = dsc.n_actions - int(action), policy[::-1].tolist()
        reach = step
        if dsc.carry_memory:
            reach += i * self.n_steps
        elif i and not step:
            # The first step of a window continues from the newest state.
            skip, policy, reach = 1, [1.0], 1
        outcomes = dict(enumerate(policy[:reach], 1))
        if nothing := policy[reach:]:
            outcomes[0] = sum(nothing)
        return (skip if skip <= reach else 0), outcomes


class _DetailedEvaluator(Evaluator):
    """Adds the policy, and probabilities and ids of the likeliest next words."""

    def details(self, outputs):
        probs = ops.softmax(ops.cast(outputs.logits, "float32"))
        n_guesses = min(N_GUESSES, probs.shape[-1])
        policy = ops.softmax(ops.cast(outputs.skips.logits, "float32"))
        return policy, *ops.top_k(probs, n_guesses)


def sentences(scored, end):
    """Yields the sentences of a text, lists of `Scored` without dropped words.

    Args:
        scored: iterable of `Scored`.
        end: the word that stands for the end of a line and ends a sentence.
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

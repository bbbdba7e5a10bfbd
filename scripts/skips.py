"""What a trained model does with a sentence: where it looks back to, what it expects.

Each sentence is read in one window, after some of the words before it in its text: then
its first words have something to look back to. The window begins in a state of zeros,
and there is nothing before its first word.
"""

import collections
from typing import NamedTuple

import numpy as np

N_GUESSES = 5


class Sentence(NamedTuple):
    """A sentence of n words, as a model read it.

    Attributes:
        context: the words before it that can be looked back to, at most n_actions; if
            fewer, there were no more.
        words: the n words, as the model knows them.
        probabilities: `[n]`, what the model gave each word before it read it.
        guesses: for each word the likeliest in its place, `(word, probability)`.
        policy: `[n, n_actions]`, the agent's probability of each skip length, 1 first.
        skips: `[n]`, the likeliest. A word of skip k was read from the state that the
            model had after the word k places before; a skip further than the first
            word of the context led to zeros, where nothing was remembered yet.
    """

    context: tuple
    words: tuple
    probabilities: np.ndarray
    guesses: tuple
    policy: np.ndarray
    skips: np.ndarray


def read(trained, context, words):
    """Reads a sentence.

    Args:
        trained: `language_modeling.trained.Trained`.
        context: ids of the words before it, at least one.
        words: ids of its words, at least one.

    Returns:
        `Sentence`.
    """
    reading = trained.read([*context, *words])
    start, n = len(context), len(words)
    expected = reading.log_probs[start - 1 : start - 1 + n]  # [n, vocab_size]
    best = np.argsort(-expected, axis=1)[:, :N_GUESSES]
    vocabulary = trained.vocabulary
    return Sentence(
        tuple(vocabulary[i] for i in context[-trained.n_actions :]),
        tuple(vocabulary[i] for i in words),
        np.exp(expected[np.arange(n), words]),
        tuple(
            tuple((vocabulary[i], float(np.exp(row[i]))) for i in ids)
            for row, ids in zip(expected, best, strict=True)
        ),
        reading.policy[start:, ::-1],
        trained.n_actions - reading.actions[start:],
    )


def of_text(trained, ids, end, n_context, first=0, count=1):
    """Reads some sentences of a text.

    Args:
        trained: `language_modeling.trained.Trained`.
        ids: iterable of word ids.
        end: id of the word for the end of a line. The text is taken to follow one.
        n_context: words that are read before each sentence, if there are so many.
        first: number of the first sentence, from 0.
        count: how many at most.

    Yields:
        `Sentence`, with the end of its line.
    """
    context = collections.deque([end], maxlen=n_context)
    sentence, number = [], 0
    for word in ids:
        sentence.append(word)
        if word != end:
            continue
        if number >= first:
            yield read(trained, list(context), sentence)
        number += 1
        if number == first + count:
            return
        context.extend(sentence)
        sentence = []
    if sentence and number >= first:
        yield read(trained, list(context), sentence)

"""Reads a text with a language model whose actions are forced or drawn."""

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from keras import ops

from dsc.cell import FORCED_LOGIT
from language_modeling.metrics import perplexity
from language_modeling.model import Noise, word_losses


class Read(NamedTuple):
    """One window, as a model read it.

    Attributes:
        log_probs: `[batch, time]`, of the right words, in nats.
        actions: `[batch, time]`.
        logits: `[batch, time, n_actions]`, of the agent.
        alternatives: see `language_modeling.model.Outputs`.
        x: `[batch, time, units]`, the inputs of the DSC-LSTM.
        hidden: `[batch, time, units]`, its outputs.
        predicted: `[batch, time]`, the values of a run with `--baseline value`.
    """

    log_probs: Any
    actions: Any
    logits: Any
    alternatives: Any = None
    x: Any = None
    hidden: Any = None
    predicted: Any = None


class Reader:
    """Reads the same windows of a text several times.

    Args:
        model: built `LanguageModel`.
        windows: list of `(words, targets, scored)`, see `corpora.Windows`.
    """

    def __init__(self, model, windows):
        self.model = model
        self.windows = windows
        self.n_actions = model.dsc.n_actions
        self.scored = np.stack([scored for *_, scored in windows])
        self.shape = self.scored.shape  # (windows, batch, time)

    def read(self, noise=None, in_detail=False):
        """Yields the `Read` of each window, from a state of zeros.

        Args:
            noise: function of the number of a window that returns `[batch, time,
                n_actions]`, added to the agent's logits. None is greedy.
            in_detail: whether the last four parts of `Read` are wanted.
        """
        state = self.model.get_initial_state(self.shape[1])
        for i, (words, targets, _) in enumerate(self.windows):
            added = np.zeros((1, 1, 1)) if noise is None else noise(i)
            added = np.broadcast_to(added, (*words.shape, self.n_actions))
            added = tf.constant(added, tf.float32)
            parts, state = self._step(words, targets, state, added, in_detail)
            yield Read(*(part.numpy() for part in parts))

    @tf.function(autograph=False, reduce_retracing=True)
    def _step(self, words, targets, state, noise, in_detail):
        model, noise = self.model, Noise(noise)
        outputs = model(words, state, noise, targets if in_detail else None)
        skips = outputs.skips
        parts = [-word_losses(outputs.logits, targets), skips.actions, skips.logits]
        if in_detail:
            parts += [outputs.alternatives, inputs(model, words, state), outputs.hidden]
            parts += [] if outputs.values is None else [outputs.values]
        return parts, outputs.state

    def log_probs(self, noise=None):
        """`(log_probs, actions)` of all windows, each `[windows, batch, time]`."""
        read = [(window.log_probs, window.actions) for window in self.read(noise)]
        return [np.stack(part) for part in zip(*read, strict=True)]

    def perplexity(self, log_probs):
        """That of the scored words; `log_probs` is `[windows, batch, time]`."""
        return perplexity(-np.mean(log_probs[self.scored], dtype=np.float64))


def inputs(model, words, state):
    """The inputs of the DSC-LSTM without dropout, `[batch, time, units]`."""
    x = model.embedding(words)
    for lstm, layer_state in zip(model.lstms, state[:-1], strict=True):
        x, *_ = lstm(x, initial_state=layer_state)
    return ops.cast(x, model.dsc.compute_dtype)


def forced(actions, n_actions):
    """Noise under which the argmax is at `actions`."""
    return FORCED_LOGIT * np.eye(n_actions, dtype=np.float32)[actions]


def perplexities(reader, draws, rng):
    """The perplexity of each way to choose.

    Args:
        reader: `Reader`.
        draws: number of sampled passes.
        rng: `numpy.random.Generator`.

    Returns:
        List of `(name, perplexity)`, the greedy one first.
    """
    n = reader.n_actions

    def gumbel(_):
        return rng.gumbel(size=(*reader.shape[1:], n))

    def of(actions):
        """The perplexity with actions `[windows, batch, time]`."""
        return reader.perplexity(reader.log_probs(lambda i: forced(actions[i], n))[0])

    log_probs, actions = reader.log_probs()
    rows = [("greedy", reader.perplexity(log_probs))]
    sampled = [reader.log_probs(gumbel)[0] for _ in range(draws)]
    mean = np.mean([reader.perplexity(each) for each in sampled])
    averaged = np.logaddexp.reduce(sampled, axis=0) - np.log(draws)
    rows += [
        ("sampled", float(mean)),
        (f"mean probability of {draws} draws", reader.perplexity(averaged)),
        ("greedy, permuted across rows", of(rng.permuted(actions, axis=1))),
        (
            "drawn from the shares of the greedy actions",
            of(rng.choice(actions[reader.scored], size=reader.shape)),
        ),
    ]
    for length in range(1, n + 1):
        name = f"always {length} back" + " (the newest)" * (length == 1)
        rows.append((name, of(np.full(reader.shape, n - length))))
    return rows

"""Samples text from a trained model."""

import itertools

import numpy as np
import tensorflow as tf
from keras import ops

from dsc import evaluation, noise
from language_modeling.model import ACTIONS, EVALUATION_SEED


class Sampler:
    """Samples text from a model.

    Without `carry_memory` the memory is reset every `n_steps` words, as between the
    windows in training and evaluation. The text then has the probability that
    `scoring.Scorer` gives it.

    Args:
        trained: `TrainedModel`.
        n_steps: words per window.
        actions: see `dsc.evaluation`.
        seed: of the words and of sampled actions.
    """

    def __init__(self, trained, n_steps, actions="greedy", seed=0):
        self.model = trained.model
        self.n_steps = n_steps
        self.actions = actions
        self.n_passes = evaluation.n_passes(actions)
        self.seed = seed

    def sample(self, prompt, temperature=1.0, top_k=None):
        """Yields word ids, endlessly.

        Args:
            prompt: ids of the words to continue, at least one.
            temperature: divides the logits; 0 takes the likeliest word.
            top_k: number of likeliest words to sample from; None is all.
        """
        rng = np.random.Generator(np.random.PCG64(self.seed))
        states = self._initial_states()
        logits = None
        for step in itertools.count():
            if step < len(prompt):
                word = prompt[step]
            else:
                word = _choose(logits.numpy(), temperature, top_k, rng)
                yield word
            logits, states = self._read(step, word, states)

    def _initial_states(self):
        layers = self.model.recurrent_layers
        states = [layer.cell.get_initial_state(self.n_passes) for layer in layers]
        if self.model.dsc.carry_memory:  # the agent chooses from the first step on
            states[-1][-1] = ops.ones_like(states[-1][-1])
        return states

    def _read(self, step, word, states):
        if step % self.n_steps == 0 and not self.model.dsc.carry_memory:
            h, c, *memory = states[-1]
            states[-1] = [h, c, *(ops.zeros_like(part) for part in memory)]
        words = np.array([word] * self.n_passes, np.int32)
        return self._step(noise.number(step), words, states)

    @tf.function(autograph=False)
    def _step(self, step, words, states):
        """One step of `LanguageModel.call`: `(logits [vocab_size], states)`."""

        def draw(shape):
            return noise.gumbel(shape, self.seed + EVALUATION_SEED, step, ACTIONS)

        shape = (self.n_passes, self.model.dsc.n_actions)
        actions = evaluation.noise(self.actions, shape, draw)
        x = self.model.embedding(words)  # [n_passes, rnn_size]
        new_states = []
        for lstm, state in zip(self.model.lstms, states[:-1], strict=True):
            x, _, state = lstm.cell.step(x, state)
            new_states.append(state)
        x, _, state = self.model.dsc.cell.step(x, states[-1], actions)
        logits = evaluation.mean_over_passes(self.model.softmax(x), self.n_passes)[0]
        return ops.cast(logits, "float32"), [*new_states, state]


def _choose(logits, temperature, top_k, rng):
    """Samples an id from softmax(logits / temperature), among the `top_k` likeliest."""
    if temperature == 0:
        return int(np.argmax(logits))
    candidates = np.arange(len(logits))
    if top_k is not None and top_k < len(logits):
        candidates = np.argpartition(logits, -top_k)[-top_k:]
    chosen_from = logits[candidates].astype(np.float64)
    with np.errstate(over="ignore"):  # minus infinity gives a probability of 0
        probs = np.exp((chosen_from - chosen_from.max()) / temperature)
    return int(rng.choice(candidates, p=probs / probs.sum()))

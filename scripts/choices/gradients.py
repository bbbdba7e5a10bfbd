"""How far a word's loss reaches back: |dL/dh_t| by distance, the paper's figure 4."""

import numpy as np
import tensorflow as tf

from choices.reading import inputs
from dsc.noise import gumbel, number
from language_modeling.model import ACTIONS, EVALUATION_SEED, Noise, word_losses


def norms(model, windows, noise=None, seed=0):
    """The mean norm of the gradient of the last word's loss in each window.

    Args:
        model: built `LanguageModel`.
        windows: list of `(words, targets, scored)`.
        noise: `[batch, time, n_actions]`, added to the agent's logits, or None. A model
            that skips at random draws its own, as `--eval_actions sample` does.
        seed: of that.

    Returns:
        `[time]`: entry d is with respect to the h of d steps before the last.
    """
    cell = model.dsc.cell

    @tf.function(autograph=False)
    def of_window(words, targets, state, noise):
        batch = words.shape[0]
        states = cell.get_initial_state(batch)
        for n, part in enumerate(state[-1]):
            states[n] = tf.reshape(part, (batch, -1))
        if model.dsc.carry_memory:
            states[-1] = tf.ones_like(states[-1])
        x, hidden = inputs(model, words, state), []
        with tf.GradientTape() as tape:
            for t in range(words.shape[1]):
                added = None if noise is None else noise[:, t]
                # All later steps use this tensor of h.
                h, _, states = cell.step(x[:, t], states, added)
                hidden.append(h)
            logits = model.softmax(h)[:, None]
            loss = tf.reduce_sum(word_losses(logits, targets[:, -1:]))
        gradients = tape.gradient(loss, hidden, unconnected_gradients="zero")
        lengths = [tf.norm(tf.cast(d, tf.float32), axis=-1) for d in gradients[::-1]]
        return tf.reduce_mean(tf.stack(lengths), axis=1)

    found, state = [], model.get_initial_state(len(windows[0][0]))
    for i, (words, targets, _) in enumerate(windows):
        if cell.choice == "random_skip":
            shape = (*words.shape, cell.n_actions)
            noise = gumbel(shape, seed + EVALUATION_SEED, number(i), ACTIONS)
        words, targets = tf.constant(words), tf.constant(targets)
        found.append(of_window(words, targets, state, noise).numpy())
        state = model(words, state, Noise(noise)).state
    return np.mean(found, axis=0)

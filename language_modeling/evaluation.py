"""Evaluates a language model on a text: word losses and actions."""

import tensorflow as tf

from dsc import evaluation, noise
from language_modeling.model import ACTIONS, EVALUATION_SEED, read_window, word_losses


class Evaluator:
    """Runs a model over successive windows of a text.

    Args:
        model: built `LanguageModel`.
        actions: see `dsc.evaluation`. Of several passes the actions and the policy are
            those of the first.
        seed: the run's, for sampled actions.
    """

    def __init__(self, model, actions="greedy", seed=0):
        self.model = model
        self.actions = actions
        self.n_passes = evaluation.n_passes(actions)
        self.seed = seed

    def run(self, windows):
        """Reads windows in order, from a state of zeros.

        Args:
            windows: iterable of `(words, targets, scored)`, see `corpora.Windows`.

        Yields:
            `(word losses, actions, *details, scored)`, each `[batch, time, ...]`.
        """
        state = None
        for i, (words, targets, scored) in enumerate(windows):
            if state is None:
                state = self.model.get_initial_state(self.n_passes * len(words))
            read, state = self._step(noise.number(i), words, targets, state)
            yield *(part.numpy() for part in read), scored

    @tf.function(autograph=False)
    def _step(self, step, words, targets, state):
        def draw(shape):
            return noise.gumbel(shape, self.seed + EVALUATION_SEED, step, ACTIONS)

        n_actions = self.model.dsc.n_actions
        outputs = read_window(self.model, words, state, n_actions, self.actions, draw)
        nll = word_losses(outputs.logits, targets)
        read = nll, outputs.skips.actions, *self.details(outputs)
        return read, outputs.state

    def details(self, outputs):
        """Further results to yield, a tuple of tensors; traced."""
        return ()

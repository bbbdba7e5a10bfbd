"""The language model as something to train and to evaluate under JAX.

What `task.py` and `dsc/training.py` do under TensorFlow: the same model, loss, windows
and schedule, with other random numbers. A training step is one compiled function.
"""

import functools

import jax
import numpy as np
from jax import numpy as jnp

from dsc.one_process import Distribution
from language_modeling import reader
from language_modeling.measures import describe, evaluation, record
from language_modeling.model import (
    ACTIONS,
    DROPOUT,
    EVALUATION_SEED,
    Noise,
    loss,
    word_losses,
)


class JaxLanguageModeling:
    """Trains a `LanguageModel` on windows that follow one another.

    The weights are the model's variables, before and after each step.

    Args:
        model: built `LanguageModel`.
        optimizer: `keras.optimizers.SGD`; holds the learning rate.
        corpus: `reader.Corpus`.
        recipe: `dsc.recipes.Recipe` with `dense_norm`.
        batch_size, n_steps: size of a window.
        dropout: share of units that is dropped.
        seed: of dropout and actions.
        max_grad_norm: global norm at which gradients are clipped.
        schedule: `schedule.Schedule` of the learning rate.
        score_tail: see `reader.all_windows`.

    Attributes:
        n_uncovered: dict from split to the number of its words that are not predicted.
    """

    distribution = Distribution()
    unit = "words"
    record = staticmethod(record)
    describe = staticmethod(describe)

    def __init__(
        self,
        model,
        optimizer,
        corpus,
        recipe,
        batch_size,
        n_steps,
        dropout,
        seed,
        max_grad_norm,
        schedule,
        score_tail=False,
    ):
        self.model = model
        self.optimizer = optimizer
        self.recipe = recipe
        self.dropout = dropout
        self.seed = seed
        self.max_grad_norm = max_grad_norm
        self.schedule = schedule
        self.batch_size = batch_size
        self.batch_units = batch_size * n_steps
        cut = dict.fromkeys(corpus.ids, reader.windows)
        if score_tail:
            cut |= dict.fromkeys(("valid", "test"), reader.all_windows)
        windows = {
            split: cut[split](ids, batch_size, n_steps, split)
            for split, ids in corpus.ids.items()
        }
        self.n_uncovered = {s: w.n_uncovered for s, w in windows.items()}
        self.n_batches = len(windows["train"])
        self.scored = {
            split: [scored for _, _, scored in w] for split, w in windows.items()
        }
        # On the device once and for all: words and targets, [windows, batch, n_steps].
        self.windows = {
            split: tuple(jnp.stack([w[i][k] for i in range(len(w))]) for k in (0, 1))
            for split, w in windows.items()
        }

    @property
    def learning_rate(self):
        """The rate of the next step."""
        return float(self.optimizer.learning_rate)

    def initial_state(self):
        """The recurrent state at the start of an epoch."""
        # Each part its own: what is passed to `train` is used up, and only once.
        return jax.tree.map(jnp.copy, self.model.get_initial_state(self.batch_size))

    def train(self, step, i, state):
        """Takes a training step on window i; returns `(state, metrics)`.

        Nothing waits for the device. The state that is passed in is used up.
        """
        variables = self.model.trainable_variables
        weights, state, metrics = self._train(
            [variable.value for variable in variables],
            state,
            self.windows["train"],
            self.learning_rate,
            step,
            i,
        )
        for variable, value in zip(variables, weights, strict=True):
            variable.assign(value)
        return state, metrics

    @functools.partial(jax.jit, static_argnums=0, donate_argnums=(1, 2))
    def _train(self, weights, state, windows, rate, step, i):
        words, targets = (part[i] for part in windows)
        gradients, total, state, metrics = self.gradients(
            weights, words, targets, state, self._noise(step, words.shape)
        )
        weights, norm = descend(weights, gradients, rate, self.max_grad_norm)
        return weights, state, {"loss": total, "grad_norm": norm, **metrics}

    def gradients(self, weights, words, targets, state, noise):
        """The gradients of the training loss of a window.

        Args:
            weights: list of arrays, the values of the model's trainable variables.
            words, targets: `[batch, time]`.
            state: recurrent state.
            noise: `model.Noise`.

        Returns:
            `(gradients, loss, state, metrics)`, the first a list as `weights` is.
        """

        def objective(weights):
            outputs = self._outputs(weights, words, state, noise)
            total, metrics = loss(
                outputs, targets, self.recipe, self.model.dsc.carry_memory
            )
            return total, (outputs.state, metrics)

        (total, (state, metrics)), gradients = jax.value_and_grad(
            objective, has_aux=True
        )(weights)
        return gradients, total, state, metrics

    def _outputs(self, weights, words, state, noise):
        frozen = [variable.value for variable in self.model.non_trainable_variables]
        outputs, _ = self.model.stateless_call(weights, frozen, words, state, noise)
        return outputs

    def _noise(self, step, shape):
        masks = None
        if self.dropout:
            units = (*shape, self.model.rnn_size)
            masks = [
                jax.random.bernoulli(
                    _key(self.seed, step, DROPOUT + i), 1.0 - self.dropout, units
                )
                / (1.0 - self.dropout)
                for i in range(self.model.n_dropout_masks)
            ]
        return Noise(self._action_noise(self.seed, step, shape), masks)

    def _action_noise(self, seed, step, shape):
        key = _key(seed, step, ACTIONS)
        return jax.random.gumbel(key, (*shape, self.model.dsc.n_actions))

    def evaluate(self):
        """`(scores, score)` after an epoch, as `dsc.training.Task` says."""
        valid, test = (self.score(split).perplexity for split in ("valid", "test"))
        return {"valid perplexity": valid, "test perplexity": test}, -valid

    def score(self, split):
        """Evaluates a split from a state of zeros; returns a `measures.Evaluation`."""
        weights = [variable.value for variable in self.model.trainable_variables]
        nll, actions = self._evaluate(
            weights, self.initial_state(), self.windows[split]
        )
        read = np.asarray(nll), np.asarray(actions), self.scored[split]
        windows = zip(*read, strict=True)
        return evaluation(windows, self.model.dsc.n_actions)

    @functools.partial(jax.jit, static_argnums=0)
    def _evaluate(self, weights, state, windows):
        """Word losses and actions of all windows, each `[windows, batch, time]`."""

        def read(state, window):
            i, words, targets = window
            actions = None
            if self.recipe.eval_actions == "sample":
                seed = self.seed + EVALUATION_SEED
                actions = self._action_noise(seed, i, words.shape)
            outputs = self._outputs(weights, words, state, Noise(actions))
            nll = word_losses(outputs.logits, targets)
            return outputs.state, (nll, outputs.skips.actions)

        numbers = jnp.arange(len(windows[0]))
        _, read_windows = jax.lax.scan(read, state, (numbers, *windows))
        return read_windows

    def end_epoch(self, score):
        """Adapts the learning rate to a score; returns why to stop, or None."""
        rate, stop = self.schedule(self.learning_rate, -score)
        self.optimizer.learning_rate = rate
        if stop and self.recipe.early_stopping:
            return "validation improves no more at the smallest learning rate"
        return None

    def schedule_state(self):
        """What `end_epoch` remembers, by name."""
        return {"best": self.schedule.best}

    def restore_schedule(self, state):
        """Takes back what `schedule_state` gave."""
        self.schedule.best = state["best"]


def descend(weights, gradients, rate, max_norm):
    """A step down the gradients, clipped by their global norm.

    Args:
        weights, gradients: lists of arrays.
        rate: learning rate.
        max_norm: positive number.

    Returns:
        `(weights, norm)`: the weights after the step, and the norm before clipping.
    """
    norm = jnp.sqrt(sum(jnp.sum(jnp.square(gradient)) for gradient in gradients))
    rate = rate * max_norm / jnp.maximum(norm, max_norm)
    return [w - rate * g for w, g in zip(weights, gradients, strict=True)], norm


def _key(seed, step, stream):
    """The key of one draw: a pure function, so that a step draws the same again."""
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), step), stream)

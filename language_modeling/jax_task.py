"""The language-model task under JAX.

Model, loss, windows and schedule are those of `task.py` and `dsc/training/step.py`; the
random numbers differ. A training step is one compiled function.
"""

import functools

import jax
import numpy as np
from jax import numpy as jnp

from dsc import evaluation
from language_modeling.base_task import LanguageModelTask
from language_modeling.model import (
    ACTIONS,
    DROPOUT,
    EVALUATION_SEED,
    RECURRENT_DROPOUT,
    ZONEOUT,
    Noise,
    loss,
    read_window,
    word_losses,
)


class JaxLanguageModeling(LanguageModelTask):
    """`LanguageModelTask` under JAX; same arguments.

    The optimizer is `keras.optimizers.SGD`, of which only the learning rate is used;
    the recipe must have `dense_norm`.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.scored = {
            split: [scored for *_, scored in windows]
            for split, windows in self.windows.items()
        }

    @functools.cached_property
    def on_device(self):
        """Dict from split to words and targets, each `[windows, batch, n_steps]`."""
        return {
            split: [jnp.stack(part) for part in list(zip(*windows, strict=True))[:2]]
            for split, windows in self.windows.items()
        }

    @property
    def keeps(self):
        """The last arguments of `draw_noise`, for training."""
        rates = self.dropout, self.recurrent_dropout
        return *(1.0 - rate if rate else None for rate in rates), self.variational

    @property
    def learning_rate(self):
        """See `dsc.training.task.Task`."""
        return float(self.optimizer.learning_rate)

    def open_log(self, folder):
        """A function that does nothing: event files need TensorFlow."""
        return lambda record: None

    def initial_state(self):
        """The recurrent state at the start of an epoch."""
        # Copies, since `train` donates each buffer, which works only once.
        return jax.tree.map(jnp.copy, self.model.get_initial_state(self.batch_size))

    def train(self, state):
        """Takes the next step of a `dsc.runs.train_state.State`; returns the metrics.

        Does not wait for the device. The buffers of the recurrent state are donated.
        """
        variables = self.model.trainable_variables
        weights, state.recurrent, metrics = self._train(
            [variable.value for variable in variables],
            state.recurrent,
            self.on_device["train"],
            self.learning_rate,
            state.step,
            state.position,
        )
        for variable, value in zip(variables, weights, strict=True):
            variable.assign(value)
        return metrics

    @functools.partial(jax.jit, static_argnums=0, donate_argnums=(1, 2))
    def _train(self, weights, state, windows, rate, step, i):
        words, targets = (part[i] for part in windows)
        noise = draw_noise(self.model, self.seed, step, words.shape, *self.keeps)
        recipe = self.recipe.after(step / len(windows[0]))
        gradients, total, state, metrics = compute_gradients(
            self.model, recipe, weights, words, targets, state, noise
        )
        weights, norm = descend(weights, gradients, rate, self.max_grad_norm)
        return weights, state, {"loss": total, "grad_norm": norm, **metrics}

    def read(self, split):
        weights = [variable.value for variable in self.model.trainable_variables]
        n_rows = evaluation.n_passes(self.recipe.eval_actions) * self.batch_size
        state = self.model.get_initial_state(n_rows)
        nll, actions = self._evaluate(weights, state, self.on_device[split])
        read = np.asarray(nll), np.asarray(actions), self.scored[split]
        return zip(*read, strict=True)

    @functools.partial(jax.jit, static_argnums=0)
    def _evaluate(self, weights, state, windows):
        """Word losses and actions of all windows, each `[windows, batch, time]`."""

        def read(state, window):
            i, words, targets = window

            def draw(shape):
                seed = self.seed + EVALUATION_SEED
                return draw_noise(self.model, seed, i, shape[:2]).actions

            outputs = read_window(
                functools.partial(call, self.model, weights),
                words,
                state,
                self.model.dsc.n_actions,
                self.recipe.eval_actions,
                draw,
            )
            nll = word_losses(outputs.logits, targets)
            return outputs.state, (nll, outputs.skips.actions)

        numbers = jnp.arange(len(windows[0]))
        _, read_windows = jax.lax.scan(read, state, (numbers, *windows))
        return read_windows


def call(model, weights, words, state, noise, targets=None):
    """The `Outputs` of a `LanguageModel` with these values of its trainable weights."""
    frozen = [variable.value for variable in model.non_trainable_variables]
    outputs, _ = model.stateless_call(weights, frozen, words, state, noise, targets)
    return outputs


def draw_noise(
    model, seed, step, shape, keep=None, recurrent_keep=None, variational=False
):
    """The `Noise` of a step, a pure function of (seed, step).

    Args:
        model: `LanguageModel`.
        seed, step: integers.
        shape: `(batch, time)`.
        keep: probability that a unit is not dropped, or None for no dropout.
        recurrent_keep: the same of the recurrent dropout.
        variational: whether the masks of both are held along the window.
    """
    (batch, time), units = shape, model.rnn_size

    def draw(n, p, shape, stream):
        keys = [_key(seed, step, stream + i) for i in range(n)]
        return [jax.random.bernoulli(key, p, shape) for key in keys]

    def drop(n, keep, stream):
        if keep is None:
            return None
        mask = (batch, 1 if variational else time, units)
        return [kept / keep for kept in draw(n, keep, mask, stream)]

    n_layers, zoneout = len(model.recurrent_layers), None
    if model.zoneout:
        zoneout = draw(n_layers, model.zoneout, (batch, time, 2 * units), ZONEOUT)
    actions = (*shape, model.dsc.n_actions)
    return Noise(
        jax.random.gumbel(_key(seed, step, ACTIONS), actions),
        drop(model.n_dropout_masks, keep, DROPOUT),
        drop(n_layers, recurrent_keep, RECURRENT_DROPOUT),
        zoneout,
    )


def compute_gradients(model, recipe, weights, words, targets, state, noise, bias=None):
    """`(gradients, loss, state, metrics)` of the training loss of a window.

    Args:
        model: `LanguageModel`.
        recipe: `dsc.recipes.Recipe`.
        weights: list of values of the model's trainable variables.
        words, targets: `[batch, time]`.
        state: recurrent state.
        noise: `Noise`.
        bias: `[n_actions]`, logits in place of those of the agent, which then are to be
            zeros; zeros or None leave the choice to the agent.
    """
    if bias is not None:
        noise = noise._replace(actions=noise.actions + bias)

    def objective(weights):
        outputs = call(model, weights, words, state, noise, targets)
        if bias is not None:
            logits = jnp.where(jnp.any(bias), bias, outputs.skips.logits)
            skips = outputs.skips._replace(logits=logits)
            outputs = outputs._replace(skips=skips)
        total, metrics = loss(outputs, targets, recipe, model.dsc.carry_memory)
        return total, (outputs.state, metrics)

    (total, (state, metrics)), gradients = jax.value_and_grad(objective, has_aux=True)(
        weights
    )
    return gradients, total, state, metrics


def descend(weights, gradients, rate, max_norm):
    """One SGD step with gradients clipped by global norm.

    Returns:
        `(weights, norm)`: the new weights, and the norm before clipping.
    """
    norm = jnp.sqrt(sum(jnp.sum(jnp.square(gradient)) for gradient in gradients))
    rate = rate * max_norm / jnp.maximum(norm, max_norm)
    return [w - rate * g for w, g in zip(weights, gradients, strict=True)], norm


def _key(seed, step, stream):
    """The random key of one draw, a pure function of its arguments."""
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), step), stream)

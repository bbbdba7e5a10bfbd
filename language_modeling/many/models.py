"""A training step and an evaluation of many language models at once.

The time loop of one model leaves most of a GPU idle. Here the weights of all models are
stacked along a first axis, and `jax.vmap` turns the step of `jax_task.py` into one of
all models. What differs between the models is data (`Settings`), not program.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import numpy as jnp

from dsc import evaluation
from dsc.cell import FORCED_LOGIT
from language_modeling.jax_task import call, compute_gradients, descend, draw_noise
from language_modeling.model import EVALUATION_SEED, Noise, word_losses


class Settings(NamedTuple):
    """What differs between the models; each part is `[models, ...]`.

    Attributes:
        seed: of dropout and actions.
        keep: probability that a unit is not dropped.
        rl_weight, entropy_weight: see `dsc.recipes.Recipe`.
        bias: `[n_actions]`, the logits of a choice without an agent. Zeros leave the
            choice to the agent.
        samples: 1 if evaluation samples actions, 0 if it does not.
        eval_bias: the bias in evaluation.
    """

    seed: Any
    keep: Any
    rl_weight: Any
    entropy_weight: Any
    bias: Any
    samples: Any
    eval_bias: Any


class Models:
    """Trains and evaluates several models in one program.

    Args:
        tasks: list of `JaxLanguageModeling`. They may differ in seed, dropout, learning
            rate, `rl_weight`, `entropy_weight`, `eval_actions` and in the choice of the
            state; a task without a choice is an LSTM. From here on, a task's evaluation
            is that of all tasks at once.
        model: `LanguageModel` with as many actions as any of the tasks' models, and an
            agent if there is more than one.

    Attributes:
        weights: list of arrays `[models, ...]`, in the order of `model`'s trainable
            variables. A model without an agent has zeros for the agent's.
    """

    def __init__(self, tasks, model):
        self.tasks = tasks
        self.model = model
        self.recipe = tasks[0].recipe
        self.max_grad_norm = tasks[0].max_grad_norm
        self.has_dropout = any(task.dropout for task in tasks)
        self.settings = _stack([self._settings(task) for task in tasks])
        self.set_weights()
        for i, task in enumerate(tasks):
            task.read = functools.partial(self._read, i)

    def _settings(self, task):
        n_actions, recipe = self.model.dsc.n_actions, task.recipe
        cell = task.model.dsc.cell
        bias = np.zeros(n_actions, np.float32)
        if cell.n_actions == 1:  # an LSTM
            bias[-1] = FORCED_LOGIT
        elif not cell.has_agent:
            bias = np.asarray(cell.fixed_logits(np.zeros(1, np.float32)))
        # A random skip of equal shares needs none: the logits of an agent of zeros are
        # zeros, and as they have the highest entropy they stay so.
        # Beside an exact agent, the logged policy loss of unequal shares is exact, too,
        # which it is not in a run of its own. It has no gradient: no weight differs.
        newest = evaluation.noise("newest", (n_actions,), None)
        return Settings(
            np.int32(task.seed),
            np.float32(1.0 - task.dropout),
            np.float32(recipe.rl_weight if cell.has_agent or cell.shares else 0.0),
            np.float32(recipe.entropy_weight),
            bias,
            np.float32(recipe.eval_actions == "sample"),
            np.asarray(newest) if recipe.eval_actions == "newest" else bias,
        )

    def set_weights(self):
        """Sets the weights to those of the tasks' own models."""
        self._read_before = {}  # from split to the results with these weights
        own = [_by_name(task.model) for task in self.tasks]
        self.weights = [
            jnp.stack(
                [
                    o[name].value if name in o else jnp.zeros(v.shape, v.dtype)
                    for o in own
                ]
            )
            for name, v in _by_name(self.model).items()
        ]

    def scatter(self, i):
        """Assigns the weights of model i to the model of task i."""
        own = _by_name(self.tasks[i].model)
        for name, values in zip(_by_name(self.model), self.weights, strict=True):
            if name in own:
                own[name].assign(values[i])

    def initial_state(self):
        """The recurrent state of all models at the start of an epoch."""
        state = self.model.get_initial_state(self.tasks[0].batch_size)
        n = len(self.tasks)
        return jax.tree.map(lambda x: jnp.broadcast_to(x, (n, *x.shape)), state)

    def train(self, state, step, position, n):
        """Takes `n` steps of every model.

        Args:
            state: recurrent state of all models.
            step: number of the first step.
            position: its window in the epoch.
            n: number of steps.

        Returns:
            `(state, means)`, the second a dict from the name of a metric to its means
            over the steps, `[models, ...]`.
        """
        self._read_before = {}
        rates = jnp.array([task.learning_rate for task in self.tasks])
        windows = self.tasks[0].on_device["train"]
        self.weights, state, sums = self._train(
            self.weights, state, self.settings, rates, windows, step, position, n
        )
        return state, {name: np.asarray(total) / n for name, total in sums.items()}

    @functools.partial(jax.jit, static_argnums=0, donate_argnums=(1, 2))
    def _train(self, weights, state, settings, rates, windows, step, position, n):
        take = jax.vmap(self._step, in_axes=(0, 0, 0, 0, None, None, None))

        def take_step(k, weights, state):
            words, targets = (part[position + k] for part in windows)
            return take(weights, state, settings, rates, step + k, words, targets)

        def add_step(k, carry):
            weights, state, sums = carry
            weights, state, metrics = take_step(k, weights, state)
            return weights, state, jax.tree.map(jnp.add, sums, metrics)

        *_, metrics = jax.eval_shape(take_step, 0, weights, state)
        sums = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), metrics)
        return jax.lax.fori_loop(0, n, add_step, (weights, state, sums))

    def _step(self, weights, state, settings, rate, step, words, targets):
        """A training step of one model."""
        keep = settings.keep if self.has_dropout else None
        _, *others = self.tasks[0].keeps  # the same for all models
        noise = draw_noise(self.model, settings.seed, step, words.shape, keep, *others)
        recipe = dataclasses.replace(
            self.recipe,
            rl_weight=settings.rl_weight,
            entropy_weight=settings.entropy_weight,
        ).after(step / self.tasks[0].n_batches)
        gradients, total, state, metrics = compute_gradients(
            self.model, recipe, weights, words, targets, state, noise, settings.bias
        )
        weights, norm = descend(weights, gradients, rate, self.max_grad_norm)
        return weights, state, {"loss": total, "grad_norm": norm, **metrics}

    def evaluate(self, split):
        """Evaluates every model on a split, from a state of zeros.

        Returns:
            `(word losses, actions)`, each `[models, windows, batch, time]`.
        """
        results = self._evaluate(
            self.weights,
            self.initial_state(),
            self.settings,
            self.tasks[0].on_device[split],
        )
        return jax.tree.map(np.asarray, results)

    @functools.partial(jax.jit, static_argnums=0)
    def _evaluate(self, weights, state, settings, windows):
        evaluate = functools.partial(self._evaluate_one, windows)
        return jax.vmap(evaluate)(weights, state, settings)

    def _evaluate_one(self, windows, weights, state, settings):
        def read(state, window):
            i, words, targets = window
            seed = settings.seed + EVALUATION_SEED
            actions = draw_noise(self.model, seed, i, words.shape).actions
            noise = Noise(settings.samples * actions + settings.eval_bias)
            outputs = call(self.model, weights, words, state, noise)
            nll = word_losses(outputs.logits, targets)
            return outputs.state, (nll, outputs.skips.actions)

        numbers = jnp.arange(len(windows[0]))
        return jax.lax.scan(read, state, (numbers, *windows))[1]

    def _read(self, i, split):
        """`LanguageModelTask.read` of task i; all tasks share one evaluation."""
        if split not in self._read_before:
            self._read_before[split] = self.evaluate(split)
        nll, actions = (part[i] for part in self._read_before[split])
        # Of fewer states a model has the newest.
        fewer = self.model.dsc.n_actions - self.tasks[i].model.dsc.n_actions
        return zip(nll, actions - fewer, self.tasks[i].scored[split], strict=True)


def select(first, weights, others):
    """For each model `weights` where `first`, bool `[models]`, else `others`."""

    first = jnp.asarray(first)
    return [
        jnp.where(first.reshape(-1, *[1] * (one.ndim - 1)), one, other)
        for one, other in zip(weights, others, strict=True)
    ]


def _by_name(model):
    """A model's trainable variables by their paths within it, a dict."""
    return {v.path.partition("/")[2]: v for v in model.trainable_variables}


def _stack(trees):
    return jax.tree.map(lambda *parts: jnp.stack(parts), *trees)

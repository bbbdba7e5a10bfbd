"""Models that are trained together are trained as each would be alone.

    python tests/on_jax/many_models.py

Fails with an AssertionError where they differ.
"""

import dataclasses
import functools
import random

import jax
import keras
import numpy as np

from dsc.cell import FORCED_LOGIT
from dsc.recipes import LANGUAGE_MODELING
from language_modeling.corpora.corpus import Corpus
from language_modeling.jax_task import (
    JaxLanguageModeling,
    compute_gradients,
    draw_noise,
)
from language_modeling.many.models import Models
from language_modeling.model import LanguageModel

VOCAB, UNITS, BATCH, N_STEPS, STEPS, K = 11, 6, 3, 5, 50, 4
RECIPE = dataclasses.replace(LANGUAGE_MODELING["corrected"], entropy_decay=0.5)
words = np.random.default_rng(0).integers(0, VOCAB, BATCH * (STEPS * N_STEPS + 1))
CORPUS = Corpus((), dict.fromkeys(("train", "valid", "test"), words), {}, {})


def model_of(name, seed=0):
    random.seed(seed)
    n_actions = 1 if name == "lstm" else K
    options = {"choice": name if name.endswith("skip") else "agent"}
    if name == "shares":
        options = {"choice": "random_skip", "shares": [0.1, 0.2, 0.3, 0.4]}
    # Large weights, so that the choices and the gradients differ from step to step.
    model = LanguageModel(VOCAB, UNITS, 1, n_actions, param_init=0.5, **options)
    model.build()
    return model


def task_of(name, seed, rate=0.1, dropout=0.0, **options):
    return JaxLanguageModeling(
        model_of(name, seed),
        keras.optimizers.SGD(rate),
        CORPUS,
        dataclasses.replace(RECIPE.for_model(name), **options),
        BATCH,
        N_STEPS,
        dropout=dropout,
        seed=seed,
        max_grad_norm=0.5,
        schedule=None,
    )


def tasks():
    return [
        task_of("dsc", 1),
        task_of("dsc", 2, dropout=0.3, entropy_weight=0.1, eval_actions="sample"),
        task_of("lstm", 3, rate=0.2),
        task_of("random_skip", 4, dropout=0.5),
        task_of("fixed_skip", 5, rl_weight=0.7),
        task_of("shares", 6, eval_actions="newest"),
        task_of("shares", 7, eval_actions="sample", entropy_weight=0.1),
    ]


alone, together = tasks(), tasks()
before = [[v.numpy() for v in task.model.trainable_variables] for task in alone]
models = Models(together, model_of("dsc"))
state = models.initial_state()
state, first = models.train(state, 0, 0, 20)
state, then = models.train(state, 20, 20, STEPS - 20)
for i, task in enumerate(alone):
    losses = []
    weights = [v.value for v in task.model.trainable_variables]
    own_state = task.initial_state()
    for step in range(STEPS):
        weights, own_state, metrics = task._train(
            weights, own_state, task.on_device["train"], task.learning_rate, step, step
        )
        losses.append(metrics["loss"])
    for variable, value in zip(task.model.trainable_variables, weights, strict=True):
        variable.assign(value)
    name = f"model {i}"
    np.testing.assert_allclose(first["loss"][i], np.mean(losses[:20]), rtol=1e-5)
    np.testing.assert_allclose(then["loss"][i], np.mean(losses[20:]), rtol=1e-5)
    models.scatter(i)
    for variable, other, old in zip(
        task.model.trainable_variables,
        together[i].model.trainable_variables,
        before[i],
        strict=True,
    ):
        one, other = np.asarray(variable.value), np.asarray(other.value)
        np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-5, err_msg=name)
        assert np.abs(one - old).max() > 1e-3, (name, variable.path)
    scores, score = task.evaluate()
    np.testing.assert_allclose(together[i].evaluate()[1], score, rtol=1e-5)
    shares, own_shares = (t.score("test").actions for t in (together[i], task))
    np.testing.assert_allclose(shares, own_shares, atol=1e-9, err_msg=name)
    assert len(shares) == task.model.dsc.n_actions

# An agent that is forced to the newest state is an LSTM, bit for bit: as XLA compiles
# for users, not as it does where tests want it to compile fast.
jit = functools.partial(jax.jit, compiler_options={"xla_cpu_use_fusion_emitters": True})
lstm, dsc = model_of("lstm", 1), model_of("dsc", 1)
of_lstm = {v.path.partition("/")[2]: v.value for v in lstm.trainable_variables}
names = [v.path.partition("/")[2] for v in dsc.trainable_variables]
words, targets = words[: 2 * BATCH * N_STEPS].reshape(2, BATCH, N_STEPS)


@jit
def gradients_of_lstm(weights):
    noise = draw_noise(lstm, 1, 0, words.shape, 0.5)
    found = compute_gradients(lstm, RECIPE, weights, words, targets, None, noise)
    return found[0], found[3]["nll"]


@jit
def gradients_of_dsc(weights):
    noise = draw_noise(dsc, 1, 0, words.shape, 0.5)
    bias = np.float32([0.0] * (K - 1) + [FORCED_LOGIT])
    found = compute_gradients(dsc, RECIPE, weights, words, targets, None, noise, bias)
    return found[0], found[3]["nll"]


own = [
    of_lstm.get(name, variable.value)
    for name, variable in zip(names, dsc.trainable_variables, strict=True)
]
found, nll = gradients_of_dsc(own)
expected, lstm_nll = gradients_of_lstm(list(of_lstm.values()))
assert nll == lstm_nll
found = dict(zip(names, found, strict=True))
for name, gradient in zip(of_lstm, expected, strict=True):
    np.testing.assert_array_equal(found[name], gradient, err_msg=name)

"""The layer in number prediction under JAX equals the NumPy loop, also in gradients.

    python tests/on_jax/numpy_loop.py

Fails with an AssertionError where they differ. tests/test_jax_task.py compares a
training step of the language model.
"""

import jax
import keras
import numpy as np
import reference

from dsc import losses
from number_prediction.model import NumberPredictor

BATCH, UNITS, N_ACTIONS, TIME = 3, 4, 5, 7

assert keras.backend.backend() == "jax"
rng = np.random.default_rng(3435)
zeros = np.zeros((BATCH, UNITS))
noise = rng.gumbel(size=(BATCH, TIME, N_ACTIONS))
digits = rng.integers(0, 10, (BATCH, TIME))
model = NumberPredictor(UNITS, N_ACTIONS, agent_units=9)
model.build()
cell = model.dsc.cell
weights = reference.randomise(cell, rng)


def assert_close(actual, expected):
    np.testing.assert_allclose(actual, expected, atol=1e-4)


def run(weights):
    x = np.eye(10)[digits]
    return reference.dsc_lstm(weights, x, zeros, zeros, N_ACTIONS, noise=noise)


expected = run(weights)
kernel, bias = map(np.asarray, model.out.weights)
outputs = model(digits, noise)
assert_close(outputs.hidden, expected.h)
assert_close(outputs.logits, expected.h @ kernel + bias)
assert_close(outputs.skips.logits, expected.logits)
assert_close(outputs.skips.actions, expected.actions)


# Gradients of the last output and of a policy loss


def loss(values):
    frozen = [v.value for v in model.non_trainable_variables]
    outputs, _ = model.stateless_call(values, frozen, digits, noise)
    skips = outputs.skips
    return outputs.hidden.sum() + losses.reinforce(skips.logits, skips.actions, 1.0)


def last_output(kernel):
    return run(weights._replace(recurrent_kernel=kernel)).h.sum()


def policy_loss(bias):
    result = run(weights._replace(agent=(*weights.agent[:3], bias)))
    policy = np.apply_along_axis(reference.softmax, -1, result.logits)
    chosen = np.take_along_axis(policy, result.actions[..., None], axis=-1)
    return -np.log(chosen).mean()


found = jax.grad(loss)([v.value for v in model.trainable_variables])
found = dict(zip(map(id, model.trainable_variables), found, strict=True))
for variable, function, values in (
    (cell.recurrent_kernel, last_output, weights.recurrent_kernel),
    (cell.agent_logits.bias, policy_loss, weights.agent[3]),
):
    expected = reference.numerical_gradient(function, values)
    assert np.any(expected)
    assert_close(found[id(variable)], expected)

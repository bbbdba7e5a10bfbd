"""The layer and number prediction under JAX equal the NumPy loops, also in gradients.

    python tests/on_jax/layer_and_numbers.py

Fails with an AssertionError where they differ. tests/test_jax_task.py compares a
training step of the language model.
"""

import jax
import keras
import numpy as np
import reference

from dsc import DSCLSTM, losses
from number_prediction.model import NumberPredictor

BATCH, FEATURES, UNITS, N_ACTIONS, AGENT_UNITS, TIME = 3, 6, 4, 5, 9, 7

assert keras.backend.backend() == "jax"
rng = np.random.default_rng(3435)
zeros = np.zeros((BATCH, UNITS))
noise = rng.gumbel(size=(BATCH, TIME, N_ACTIONS))


def assert_close(actual, expected):
    np.testing.assert_allclose(actual, expected, atol=1e-4)


def check_gradients(model, cell, weights, x, parts, *inputs):
    """Compares gradients of the last output and of a policy loss with differences."""
    frozen = [v.value for v in model.non_trainable_variables]

    def loss(values):
        last, skips = parts(model.stateless_call(values, frozen, *inputs)[0])
        return last.sum() + losses.reinforce(skips.logits, skips.actions, 1.0)

    def run(weights):
        return reference.dsc_lstm(weights, x, zeros, zeros, N_ACTIONS, noise=noise)

    def last_output(kernel):
        return run(weights._replace(recurrent_kernel=kernel)).h.sum()

    def policy_loss(bias):
        run_ = run(weights._replace(agent=(*weights.agent[:3], bias)))
        policy = np.apply_along_axis(reference.softmax, -1, run_.logits)
        chosen = np.take_along_axis(policy, run_.actions[..., None], axis=-1)
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


layer = DSCLSTM(
    UNITS, N_ACTIONS, agent_units=AGENT_UNITS, return_state=True, return_skips=True
)
layer.build((None, None, FEATURES))
weights = reference.randomise(layer.cell, rng)
x = rng.normal(size=(BATCH, TIME, FEATURES))
expected = reference.dsc_lstm(weights, x, zeros, zeros, N_ACTIONS, noise=noise)
last, h, c, skips = layer(x, noise=noise)
for actual, part in (
    (last, expected.h),
    (h, expected.h),
    (c, expected.c),
    (skips.logits, expected.logits),
    (skips.actions, expected.actions),
):
    assert_close(actual, part)
check_gradients(layer, layer.cell, weights, x, lambda out: (out[0], out[-1]), x, noise)

digits = rng.integers(0, 10, (BATCH, TIME))
predictor = NumberPredictor(UNITS, N_ACTIONS, agent_units=AGENT_UNITS)
predictor.build()
weights = reference.randomise(predictor.dsc.cell, rng)
x = np.eye(10)[digits]
expected = reference.dsc_lstm(weights, x, zeros, zeros, N_ACTIONS, noise=noise)
kernel, bias = map(np.asarray, predictor.out.weights)
assert_close(predictor(digits, noise).logits, expected.h @ kernel + bias)
check_gradients(
    predictor,
    predictor.dsc.cell,
    weights,
    x,
    lambda out: (out.hidden, out.skips),
    digits,
    noise,
)

"""Noise is a pure function of (seed, step, stream) with the right distribution."""

import math

import numpy as np
import pytest
import tensorflow as tf

from dsc import noise

KEYS = [
    (seed, step, stream)
    for seed in (0, 1, 2**31 - 1)
    for step in (0, 1, 2**40)
    for stream in (0, 1, 2)
]


def mask(shape, seed, step, stream):
    return noise.dropout_mask(shape, 0.4, seed, step, stream)


both = pytest.mark.parametrize("draw", [noise.gumbel, mask])


@both
def test_the_same_key_gives_the_same_numbers_and_any_other_key_others(draw):
    shape = (5, 7, 11)
    draws = [draw(shape, *key).numpy() for key in KEYS]
    tf.random.normal((3,))  # other random numbers change nothing
    for key, first in zip(KEYS, draws, strict=True):
        assert first.shape == shape and first.dtype == np.float32
        np.testing.assert_array_equal(draw(shape, *key), first)
    assert len({first.tobytes() for first in draws}) == len(KEYS)


@both
@pytest.mark.parametrize(("xla", "tolerance"), [(False, 0.0), (True, 1e-5)])
def test_a_compiled_step_draws_what_an_eager_one_does(draw, xla, tolerance):
    compiled = tf.function(lambda step: draw((5, 7), 9, step, 2), jit_compile=xla)
    for step in (5, 6):
        traced = compiled(tf.constant(step, tf.int64))
        # XLA rounds its logarithm in another way.
        expected = draw((5, 7), 9, step, 2)
        np.testing.assert_allclose(traced, expected, rtol=0, atol=tolerance)


@both
def test_draws_of_neighbouring_keys_are_uncorrelated(draw):
    n = 20_000
    base, *others = (
        draw((n,), *key).numpy() for key in [(1, 2, 0), (2, 2, 0), (1, 3, 0), (1, 2, 1)]
    )
    for other in others:
        assert abs(np.corrcoef(base, other)[0, 1]) < 4 / math.sqrt(n)


def test_gumbel_noise_has_the_mean_and_variance_of_the_standard_gumbel():
    n = 200_000
    draws = noise.gumbel((n,), seed=3435, step=17, stream=0).numpy().astype(float)
    variance = math.pi**2 / 6
    assert abs(draws.mean() - np.euler_gamma) < 4 * math.sqrt(variance / n)
    # The kurtosis of a Gumbel variable is 5.4, hence the error of its variance.
    assert abs(draws.var() - variance) < 4 * variance * math.sqrt(4.4 / n)


def test_argmax_of_logits_and_gumbel_noise_samples_their_softmax():
    n, probabilities = 50_000, np.array([0.05, 0.15, 0.3, 0.5])
    draws = noise.gumbel((n, 4), seed=1, step=2, stream=3).numpy()
    actions = np.argmax(np.log(probabilities) + draws, axis=-1)
    expected = n * probabilities
    chi_square = np.sum((np.bincount(actions, minlength=4) - expected) ** 2 / expected)
    assert chi_square < 21.1  # 3 degrees of freedom: 1 in 10,000


def test_gumbel_noise_is_finite_at_both_ends_of_the_uniform_draws(monkeypatch):
    ends = tf.constant([0, 2**32 - 1], tf.uint32)  # no bit set, all bits set
    monkeypatch.setattr(tf.random, "stateless_uniform", lambda *_, **__: ends)
    low, high = noise.gumbel((2,), 0, 0, 0).numpy()
    assert -3 < low < -2.5
    assert high == pytest.approx(23 * math.log(2), rel=1e-5)  # -log(2^-23)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.75])
def test_dropout_drops_its_share_and_scales_up_the_rest_and_zoneout_keeps_it(rate):
    n = 100_000
    factors = noise.dropout_mask((n,), rate, seed=5, step=8, stream=1).numpy()
    np.testing.assert_allclose(np.unique(factors), [0, 1 / (1 - rate)], rtol=1e-6)
    dropped = np.mean(factors == 0)
    kept = noise.zoneout_mask((n,), rate, seed=5, step=8, stream=1).numpy()
    assert set(kept) == {0, 1}
    for share in (dropped, np.mean(kept)):
        assert abs(share - rate) < 4 * math.sqrt(rate * (1 - rate) / n)


def test_dropout_at_rate_zero_is_a_factor_of_one():
    factors = noise.dropout_mask((300, 70), 0.0, seed=5, step=8, stream=1).numpy()
    np.testing.assert_array_equal(factors, np.ones((300, 70)))


def test_the_number_of_a_step_is_an_array_that_no_one_keeps():
    step = noise.number(2**40)
    assert step.dtype == np.int64 and step.shape == ()
    assert int(tf.constant(step)) == 2**40

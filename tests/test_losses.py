"""The losses are what their formulas say, and their gradient is the policy gradient."""

import itertools

import keras
import numpy as np
import pytest
import reference
import tensorflow as tf
from numpy.testing import assert_allclose

from dsc import DSCLSTM
from dsc.losses import (
    advantages,
    entropy,
    exact,
    log_prob,
    reinforce,
    reward_to_go,
    value_advantages,
)
from dsc.noise import gumbel
from dsc.value import Value

LN_2, LN_3 = np.log(2.0), np.log(3.0)

# Two sequences of three steps with four actions. The policies are 1:1:2:4, 3:3:1:1,
# 1:1:1:1 and 2:2:2:2, 4:2:1:1, 1:4:2:1, each divided by its sum of 8 (4 for the third).
COUNTS = np.array(
    [
        [[1, 1, 2, 4], [3, 3, 1, 1], [1, 1, 1, 1]],
        [[2, 2, 2, 2], [4, 2, 1, 1], [1, 4, 2, 1]],
    ],
    "float32",
)
# Any constant may be added to a step's logits.
LOGITS = np.log(COUNTS) + np.array([[[7.0], [-3.0], [0.0]]], "float32")
ACTIONS = np.array([[3, 0, 2], [1, 2, 1]])


def constant(values):
    return tf.constant(values, "float32")


def test_log_prob_by_hand():
    # Counts of the actions over the sums: 4/8, 3/8, 1/4 and 2/8, 1/8, 4/8.
    expected = [
        [-LN_2, LN_3 - 3 * LN_2, -2 * LN_2],
        [-2 * LN_2, -3 * LN_2, -LN_2],
    ]
    assert_allclose(log_prob(constant(LOGITS), ACTIONS), expected, atol=1e-5)


def test_entropy_by_hand():
    # H = ln(sum) - mean of ln(count):
    #   1:1:2:4  3 ln 2 - (2 ln 2 + 4 * 2 ln 2) / 8 = 3 ln 2 - 5/4 ln 2
    #   3:3:1:1  3 ln 2 - 6/8 ln 3
    #   4:2:1:1 and 1:4:2:1 as the first, the others are uniform: 2 ln 2
    skewed = 1.75 * LN_2
    expected = [
        [skewed, 3 * LN_2 - 0.75 * LN_3, 2 * LN_2],
        [2 * LN_2, skewed, skewed],
    ]
    assert_allclose(entropy(constant(LOGITS)), expected, atol=1e-5)


def test_the_exact_gradient_is_the_expectation_of_that_of_reinforce(rng):
    logits = tf.constant(LOGITS)
    rewards = tf.constant(rng.normal(size=COUNTS.shape), "float32")
    policy = COUNTS / COUNTS.sum(axis=-1, keepdims=True)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch((logits, rewards))
        loss = exact(logits, rewards)
        parts = [
            reinforce(logits, np.full((2, 3), k), policy[..., k] * rewards[..., k])
            for k in range(4)
        ]
    expected = sum(tape.gradient(part, logits) for part in parts)
    assert_allclose(tape.gradient(loss, logits), expected, atol=1e-6)
    assert tape.gradient(loss, rewards) is None
    assert_allclose(loss, -np.mean(np.sum(policy * rewards, axis=-1)), rtol=1e-6)


def test_reward_to_go_by_hand():
    rewards = constant([[1, 2, 4], [0, -1, 3]])
    # 1+2+4, 2+4, 4 and 0-1+3, -1+3, 3.
    assert_allclose(reward_to_go(rewards), [[7, 6, 4], [2, 2, 3]])
    assert_allclose(reward_to_go(constant([[1], [-1]])), [[1], [-1]])  # one step


RETURNS = [[1, 0], [2, 0], [6, 3]]


@pytest.mark.parametrize(
    ("baseline", "expected"),
    [
        ("none", RETURNS),
        # Less the mean of the others, first step: 1 - (2+6)/2, 2 - (1+6)/2,
        # 6 - (1+2)/2; second step: 0 - (0+3)/2, the same, 3 - 0.
        ("mean", [[-3, -1.5], [-1.5, -1.5], [4.5, 3]]),
        # Divided by the standard deviations, sqrt((4+1+9)/3) and sqrt((1+1+4)/3).
        (
            "standardised",
            np.array([[-3, -1.5], [-1.5, -1.5], [4.5, 3]]) / np.sqrt([14 / 3, 2]),
        ),
    ],
)
def test_advantages_by_hand(baseline, expected):
    arguments = () if baseline == "mean" else (baseline,)  # the default
    assert_allclose(advantages(constant(RETURNS), *arguments), expected, rtol=1e-5)


@pytest.mark.parametrize("baseline", ["none", "mean", "standardised"])
def test_equal_returns_are_no_advantage_and_one_row_has_no_baseline(baseline):
    expected = 3.0 if baseline == "none" else 0.0
    found = advantages(tf.fill((4, 2), 3.0), baseline)
    assert_allclose(found, np.full((4, 2), expected))
    assert_allclose(advantages(constant([[2, -3, 5]]), baseline), [[2, -3, 5]])


def test_an_unknown_baseline_is_named():
    with pytest.raises(ValueError, match=r"^baseline must .*'median'"):
        advantages(constant(RETURNS), "median")


def test_reinforce_and_its_gradient_by_hand():
    logits = constant(LOGITS)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = reinforce(logits, ACTIONS, constant([[1, 0, 2], [-1, 3, 0.5]]))
    # - mean of log-probabilities (above) times advantages, in units of ln 2 and ln 3:
    # - (-1 + 0 - 4 + 2 - 9 - 0.5) / 6 = 12.5 / 6; the 3/8 has an advantage of 0.
    assert_allclose(loss, 12.5 / 6 * LN_2, rtol=1e-5)
    # (policy - one-hot of the action) * advantage / 6, in eighths.
    eighths = [
        [[1, 1, 2, -4], [0, 0, 0, 0], [4, 4, -12, 4]],
        [[-2, 6, -2, -2], [12, 6, -21, 3], [0.5, -2, 1, 0.5]],
    ]
    assert_allclose(tape.gradient(loss, logits), np.array(eighths) / 48, atol=1e-6)


def test_reinforce_takes_one_advantage_for_a_sequence():
    found = reinforce(constant(LOGITS), ACTIONS, constant([[2], [-1]]))
    each = constant([[2, 2, 2], [-1, -1, -1]])
    assert_allclose(found, reinforce(constant(LOGITS), ACTIONS, each), rtol=1e-6)


def test_what_is_masked_does_not_count():
    mask = np.array([[True, False, True], [True, False, False]])
    nan = np.nan
    advantage = constant([[1, nan, 2], [-1, nan, nan]])
    logits = constant(LOGITS)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = reinforce(logits, ACTIONS, advantage, mask)
    assert_allclose(loss, (1 + 4 - 2) / 3 * LN_2, rtol=1e-5)
    eighths = [
        [[1, 1, 2, -4], [0] * 4, [4, 4, -12, 4]],
        [[-2, 6, -2, -2], [0] * 4, [0] * 4],
    ]
    assert_allclose(tape.gradient(loss, logits), np.array(eighths) / 24, atol=1e-6)
    nowhere, everywhere = np.zeros((2, 3), bool), np.ones((2, 3), bool)
    assert_allclose(reinforce(logits, ACTIONS, 1.0, nowhere), 0)
    assert_allclose(
        reinforce(logits, ACTIONS, 1.0, everywhere), reinforce(logits, ACTIONS, 1.0)
    )
    # The exact loss is that of the steps that count, and its gradient elsewhere zero.
    rewards = np.where(mask[..., None], COUNTS, nan).astype("float32")
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(logits)
        loss, expected = exact(logits, rewards, mask), exact(logits[mask], COUNTS[mask])
    assert_allclose(loss, expected, rtol=1e-6)
    both = (tf.convert_to_tensor(tape.gradient(x, logits)) for x in (loss, expected))
    assert_allclose(*both, atol=1e-6)
    assert_allclose(exact(logits, rewards, nowhere), 0)


def test_a_reward_passes_no_gradient():
    logits, weight = constant(LOGITS), tf.constant(2.0)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch((logits, weight))
        rewards = weight * constant([[1, 0, 2], [-1, 3, 0.5]])
        loss = reinforce(logits, ACTIONS, advantages(reward_to_go(rewards)))
    assert tape.gradient(loss, weight) is None
    assert np.any(tape.gradient(loss, logits))


@pytest.mark.parametrize("scale", [1e3, 1e30])
def test_extreme_logits_stay_finite(scale):
    logits = constant([[[scale, -scale, 0.0], [-scale, scale, scale]]])
    # First a certain action, then one all but impossible beside two equal ones.
    expected = [[0, -2 * scale - LN_2]]
    assert_allclose(log_prob(logits, [[0, 0]]), expected, rtol=1e-6)
    assert_allclose(entropy(logits), [[0, LN_2]], atol=1e-6)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = reinforce(logits, [[1, 0]], 1.0) - tf.reduce_mean(entropy(logits))
    assert np.isfinite(loss)
    # Half of (policy - one-hot): [1, -1, 0] and [-1, 1/2, 1/2]; the entropy is flat.
    expected = [[[0.5, -0.5, 0], [-0.5, 0.25, 0.25]]]
    assert_allclose(tape.gradient(loss, logits), expected, atol=1e-6)


@pytest.mark.parametrize(("dtype", "huge"), [("float32", 3e38), ("float16", 6e4)])
def test_a_certain_action_has_log_probability_zero_for_any_finite_logits(dtype, huge):
    assert_allclose(log_prob(tf.constant([[huge, -huge]], dtype), [0]), [0.0])


# The policy gradient of a real, tiny network

BATCH = 4
FEATURES = 5
UNITS = 6
N_ACTIONS = 2
AGENT_UNITS = 7
TIME = 3
N_BATCHES = 5000  # 20,000 draws
# Whether an action is credited with later rewards only, and the baseline.
KINDS = [(True, "none"), (True, "mean"), (False, "mean")]


@pytest.fixture(scope="module")
def network():
    """`(layer, weights, inputs [1, time, features], rewards' weights [units])`."""
    rng = np.random.default_rng(3435)
    layer = DSCLSTM(
        UNITS,
        N_ACTIONS,
        agent_units=AGENT_UNITS,
        return_sequences=True,
        return_skips=True,
        implementation="plain",
    )
    layer.build((None, None, FEATURES))
    weights = reference.randomise(layer.cell, rng)
    x = rng.normal(size=(1, TIME, FEATURES))
    return layer, weights, x, rng.normal(size=UNITS)


def exact_gradient(weights, x, values):
    """Of the expected sum of rewards, to the agent's weights; flat.

    The expectation is enumerated: over all strings of actions, probability times
    rewards. It is differentiated by central differences.
    """

    def expected_rewards(flat_agent):
        agent, start = [], 0
        for part in weights.agent:
            agent.append(flat_agent[start : start + part.size].reshape(part.shape))
            start += part.size
        total = 0.0
        for actions in itertools.product(range(N_ACTIONS), repeat=TIME):
            run = reference.dsc_lstm(
                weights._replace(agent=agent),
                x,
                np.zeros((1, UNITS)),
                np.zeros((1, UNITS)),
                N_ACTIONS,
                noise=1e4 * np.eye(N_ACTIONS)[None, actions],
            )
            probability = 1.0
            for logits, action in zip(run.logits[0], actions, strict=True):
                probability *= reference.softmax(logits)[action]
            total += probability * np.sum(run.outputs[0] @ values)
        return total

    flat_agent = np.concatenate([np.ravel(part) for part in weights.agent])
    return reference.numerical_gradient(expected_rewards, flat_agent)


@pytest.fixture(scope="module")
def estimates(network):
    """REINFORCE's gradients of many small batches, `[n_batches, n_weights]` each.

    A dict over `KINDS`; all from the same draws.
    """
    layer, _, x, values = network
    cell = layer.cell
    agent = [*cell.agent_hidden.weights, *cell.agent_logits.weights]
    x = tf.constant(np.repeat(x, BATCH, axis=0), "float32")
    values = tf.constant(values, "float32")

    def losses(outputs, skips):
        rewards = tf.linalg.matvec(outputs, values)  # [batch, time]
        for to_go, baseline in KINDS:
            if to_go:
                returns = reward_to_go(rewards)
            else:
                returns = tf.reduce_sum(rewards, axis=1, keepdims=True)
            advantage = advantages(returns, baseline)
            yield reinforce(skips.logits, skips.actions, advantage)

    def gradients(noise):
        with tf.GradientTape(persistent=True) as tape:
            all_losses = list(losses(*layer(x, noise=noise)))
        weights = [w.value for w in agent]
        return [
            tf.concat([tf.reshape(g, (-1,)) for g in tape.gradient(loss, weights)], 0)
            for loss in all_losses
        ]

    @tf.function(autograph=False)
    def draw():
        noise = gumbel([N_BATCHES, BATCH, TIME, N_ACTIONS], seed=1, step=0, stream=0)
        return tf.map_fn(
            gradients, noise, fn_output_signature=[tf.float32] * len(KINDS)
        )

    return dict(zip(KINDS, (part.numpy() for part in draw()), strict=True))


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_the_mean_gradient_is_that_of_the_expected_reward(network, estimates, kind):
    _, weights, x, values = network
    # The loss is minus the reward, and a mean over the steps.
    exact = -exact_gradient(weights, x, values) / TIME
    drawn = estimates[kind].astype("float64")
    error = drawn.std(axis=0, ddof=1) / np.sqrt(N_BATCHES)
    assert np.all(np.abs(drawn.mean(axis=0) - exact) <= 4 * error + 1e-8)
    # And the draws are enough to tell it from zero, or from 4/5 of itself.
    assert np.max(np.abs(exact) / error) > 20


def test_a_baseline_and_leaving_out_past_rewards_lower_the_variance(estimates):
    variances = {kind: drawn.var(axis=0).sum() for kind, drawn in estimates.items()}
    assert variances[True, "mean"] < 0.7 * variances[True, "none"]
    assert variances[True, "mean"] < variances[False, "mean"]


# The learned baseline


def test_a_value_learns_the_mean_return_of_its_input(rng):
    x = constant(100.0 * np.eye(3)[None, [0, 1, 2, 0, 1, 2]])  # any size of the input
    returns = constant([[1.0, -4.0, -9.0, 3.0, -8.0, -9.0]])
    value, sgd = Value(), keras.optimizers.SGD(1.0)
    value.build(x.shape)
    for _ in range(300):
        with tf.GradientTape() as tape:
            tape.watch((x, returns))
            advantage, error = value_advantages(returns, value(x))
        sources = [x, returns, *(w.value for w in value.trainable_weights)]
        to_inputs, to_returns, *own = tape.gradient(error, sources)
        assert to_inputs is None and to_returns is None
        sgd.apply(own, value.trainable_weights)
    assert_allclose(value(x)[0, :3], [2.0, -6.0, -9.0], atol=1e-2)
    assert_allclose(advantage, returns - value(x), atol=1e-4)


def test_the_policy_loss_passes_no_gradient_to_the_values():
    values = constant([[1.0, 2.0, 3.0]])
    with tf.GradientTape() as tape:
        tape.watch(values)
        advantage, _ = value_advantages(constant([[5.0]]), values)
    assert tape.gradient(advantage, values) is None
    assert_allclose(advantage, [[4.0, 3.0, 2.0]])

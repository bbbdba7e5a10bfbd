"""`dsc.Reinforced`: what `fit` adds for the agents, held against NumPy.

Runs on the backend of Keras, whichever that is; see `test_backends`.
"""

import warnings

import keras
import numpy as np
import pytest
from keras import ops

import dsc
from dsc.layer import record_skips, recorded_skips

BATCH, TIME, WORDS, UNITS, K, CLASSES = 6, 5, 9, 4, 3, 4
RATE = 0.5
is_tensorflow = keras.backend.backend() == "tensorflow"
# What takes less time for a single step: JAX compiles each operation by itself.
EAGERLY = keras.backend.backend() != "jax"

# Padding after, before, inside and nowhere; a row of one step; an empty one.
MASK = np.array(
    [
        [1, 1, 1, 0, 0],
        [0, 0, 1, 1, 1],
        [1, 0, 1, 1, 0],
        [1, 1, 1, 1, 1],
        [0, 1, 0, 0, 0],
        [0, 0, 0, 0, 0],
    ],
    bool,
)


@pytest.fixture
def noise(rng, monkeypatch):
    """What every layer draws, `[batch, time, K]`."""
    noise = rng.gumbel(size=(BATCH, TIME, K)).astype("float32")
    fixed = lambda self, shape: ops.convert_to_tensor(noise)  # noqa: E731
    monkeypatch.setattr(dsc.DSCLSTM, "_gumbel", fixed)
    return noise


def build(
    per_step=False,
    layers=1,
    bidirectional=False,
    optimizer=None,
    eager=False,
    **options,
):
    """A compiled `Reinforced` on word ids, 0 of which is padding."""
    x = inputs = keras.Input((None,), dtype="int32")
    x = keras.layers.Embedding(WORDS, 5, mask_zero=True)(x)
    for n in range(layers):
        goes_on = per_step or n < layers - 1
        layer = dsc.DSCLSTM(UNITS, K, agent_units=7, return_sequences=goes_on)
        x = (keras.layers.Bidirectional(layer) if bidirectional else layer)(x)
    spread = keras.initializers.RandomNormal(stddev=2.0)  # of the rewards
    outputs = keras.layers.Dense(CLASSES, kernel_initializer=spread)(x)
    model = dsc.Reinforced(inputs, outputs, **options)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer = optimizer or keras.optimizers.SGD(RATE)
    model.compile(optimizer, loss, run_eagerly=eager)
    return model


def cells(model):
    return [x.cell for x in model._flatten_layers() if isinstance(x, dsc.DSCLSTM)]


@keras.saving.register_keras_serializable(package="test")
def is_right(y, y_pred):
    answers = ops.cast(ops.argmax(y_pred, -1), y.dtype)
    return ops.cast(ops.equal(answers, y), "float32")


def data(rng, per_step=False):
    words = rng.integers(1, WORDS, (BATCH, TIME)) * MASK
    return words, rng.integers(0, CLASSES, (BATCH, TIME) if per_step else BATCH)


def used_steps():
    """Where an action counts: not at padding, nor at the first step of a row."""
    return MASK & (np.cumsum(MASK, axis=1) > 1)


def log_softmax(x):
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def forward(model, words, training=True):
    """`(logits of the answers, logits of the agent, actions)`."""
    with record_skips():
        answers = model(words, training=training)
        (call,) = recorded_skips()
    return tuple(map(ops.convert_to_numpy, (answers, call.logits, call.actions)))


def expected_gradient(logits, actions, advantage, weights, rl_weight, entropy_weight):
    """Of the bias of the agent's logits, by hand.

    Args:
        advantage, weights: `[batch, time]`.
    """
    log_policy = log_softmax(logits)
    policy = np.exp(log_policy)
    entropy = -(policy * log_policy).sum(-1, keepdims=True)
    of_policy = (policy - np.eye(K)[actions]) * advantage[..., None]
    of_entropy = policy * (log_policy + entropy)
    each = rl_weight * of_policy + entropy_weight * of_entropy
    return (each * weights[..., None]).sum((0, 1)) / weights.sum()


def advantages(rewards, counts, baseline="mean"):
    """By hand, one column at a time; see `dsc.losses.advantages`."""
    result = np.array(rewards, float)
    if baseline == "none":
        return result
    for column, (values, count) in enumerate(zip(rewards.T, counts.T, strict=True)):
        for row, value in enumerate(values):
            others = [v for n, v in enumerate(values) if count[n] > 0 and (n != row)]
            result[row, column] = value - (np.mean(others) if others else 0.0)
        if baseline == "standardised" and (count > 0).sum() > 1:
            result[:, column] /= values[count > 0].std() + 1e-6
    return result


def gradient(model, *batch):
    """Of the bias of the agent's logits, from one step of `train_on_batch`."""
    (cell,) = cells(model)
    before = ops.convert_to_numpy(cell.agent_logits.bias)
    model.train_on_batch(*batch)
    return (before - ops.convert_to_numpy(cell.agent_logits.bias)) / RATE


@pytest.mark.parametrize(
    ("baseline", "has_weights"),
    [("mean", False), ("mean", True), ("standardised", True), ("none", True)],
)
@pytest.mark.parametrize("credit", ["all", "last", "per step"])
def test_a_step_of_fit_has_the_policy_gradient(
    credit, baseline, has_weights, noise, rng
):
    per_step = credit == "per step"
    options = {} if per_step else {"credit": credit}
    model = build(
        per_step,
        eager=has_weights,  # which takes less time than to compile a step
        baseline=baseline,
        rl_weight=0.7,
        entropy_weight=0.3,
        **options,
    )
    words, targets = data(rng, per_step)
    answers, logits, actions = forward(model, words)
    losses = -np.take_along_axis(log_softmax(answers), targets[..., None], -1)[..., 0]
    rewards = -losses if per_step else -losses[:, None]
    counts = MASK.astype(float) if per_step else np.ones((BATCH, 1))
    sample_weight = None
    if has_weights:
        sample_weight = rng.integers(0, 3, targets.shape).astype("float32")
        counts = counts * sample_weight.reshape(counts.shape)
    used = used_steps()
    if credit == "last":
        used &= used & (np.cumsum(used[:, ::-1], axis=1)[:, ::-1] == 1)
    expected = expected_gradient(
        logits,
        actions,
        np.broadcast_to(advantages(rewards, counts, baseline), used.shape),
        used * counts,
        0.7,
        0.3,
    )
    found = gradient(model, words, targets, sample_weight)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=2e-6)


def test_a_reward_of_ones_own(noise, rng):
    model = build(reward=is_right)
    words, targets = data(rng)
    answers, logits, actions = forward(model, words)
    rewards = (answers.argmax(-1) == targets).astype(float)[:, None]
    advantage = advantages(rewards, np.ones_like(rewards))
    advantage = np.broadcast_to(advantage, MASK.shape)
    expected = expected_gradient(logits, actions, advantage, used_steps(), 1.0, 0.01)
    np.testing.assert_allclose(
        gradient(model, words, targets), expected, rtol=1e-3, atol=2e-6
    )


@pytest.mark.parametrize("policy", ["float64", "mixed_float16", "bfloat16"])
def test_it_trains_in_any_precision(policy):
    keras.config.set_dtype_policy(policy)
    try:
        model = build(eager=EAGERLY)
    finally:
        keras.config.set_dtype_policy("float32")
    words = np.where(MASK, 1 + np.arange(TIME), 0)
    loss, *_ = np.ravel(model.train_on_batch(words, np.arange(BATCH) % CLASSES))
    assert np.isfinite(loss)


@pytest.mark.skipif(not is_tensorflow, reason="the script is TensorFlow's")
def test_the_gradients_are_those_of_the_number_prediction_script(noise, rng):
    import tensorflow as tf

    from dsc.recipes import NUMBER_PREDICTION
    from number_prediction.model import NumberPredictor, loss

    numbers, answers = rng.integers(0, 10, (BATCH, TIME)), rng.integers(0, 10, BATCH)
    predictor = NumberPredictor(UNITS, K)
    predictor.build()
    with tf.GradientTape() as tape:
        outputs = predictor(numbers, noise)
        total, _ = loss(outputs, answers, NUMBER_PREDICTION["corrected"])
    expected = tape.gradient(total, predictor.trainable_variables)

    inputs = keras.Input((TIME,), dtype="int32")
    layer = dsc.DSCLSTM(UNITS, K, agent_units=10)
    output = keras.layers.Dense(10)
    vectors = keras.layers.Lambda(lambda x: ops.one_hot(x, 10), (TIME, 10))(inputs)
    model = dsc.Reinforced(
        inputs,
        output(layer(vectors)),
        reward=lambda y, y_pred: 2.0 * is_right(y, y_pred) - 1.0,
    )
    model.set_weights(predictor.get_weights())
    compiled_loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(RATE), compiled_loss)
    before = model.get_weights()
    model.train_on_batch(numbers, answers)
    for old, new, g in zip(before, model.get_weights(), expected, strict=True):
        np.testing.assert_allclose((old - new) / RATE, g, rtol=1e-3, atol=2e-6)


@pytest.mark.skipif(not is_tensorflow, reason="the script is TensorFlow's")
def test_the_agents_gradients_are_those_of_the_language_model_script(noise, rng):
    import tensorflow as tf

    from dsc.recipes import LANGUAGE_MODELING
    from language_modeling.model import Outputs, loss

    recipe = LANGUAGE_MODELING["corrected"]
    x = keras.Input((TIME, 3))
    layer = dsc.DSCLSTM(UNITS, K, agent_units=7, return_sequences=True)
    model = dsc.Reinforced(
        x,
        keras.layers.Dense(WORDS)(layer(x)),
        baseline=recipe.baseline,
        rl_weight=recipe.rl_weight,
        entropy_weight=recipe.entropy_weight,
    )
    loss_ = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(RATE), loss_)
    vectors = rng.normal(size=(BATCH, TIME, 3)).astype("float32")
    words = rng.integers(0, WORDS, (BATCH, TIME))
    with tf.GradientTape() as tape, record_skips():
        logits = model(vectors, training=True)
        (call,) = recorded_skips()
        outputs = Outputs(logits, None, dsc.Skips(call.logits, call.actions), None)
        total, _ = loss(outputs, words, recipe)
    variables = layer.cell.agent_hidden.variables + layer.cell.agent_logits.variables
    expected = tape.gradient(total, [v.value for v in variables])
    before = [v.numpy() for v in variables]
    model.train_on_batch(vectors, words)
    for old, variable, g in zip(before, variables, expected, strict=True):
        found = (old - variable.numpy()) / RATE
        np.testing.assert_allclose(found, g, rtol=2e-3, atol=2e-6)


# Which agents learn


@pytest.mark.parametrize(
    "per_step", [False, pytest.param(True, marks=pytest.mark.slow)]
)
def test_agents_are_found_wherever_they_are(per_step, rng):
    inner = build(per_step, layers=2, bidirectional=True)
    inputs = keras.Input((None,), dtype="int32")
    model = dsc.Reinforced(inputs, keras.Sequential([inner])(inputs))
    model.compile(inner.optimizer.__class__(RATE), inner.loss)
    agents = [w for c in cells(model) for w in c.agent_logits.weights]
    assert len(agents) == 4 * 2
    before = [ops.convert_to_numpy(w) for w in agents]
    history = model.fit(*data(rng, per_step), batch_size=BATCH, verbose=0).history
    assert {"policy_entropy", "mean_skip_length"} <= history.keys()
    for old, new in zip(before, agents, strict=True):
        assert np.any(old != ops.convert_to_numpy(new))


def test_without_an_agent_it_trains_as_keras_model_does(rng):
    found = []
    for kind in (keras.Model, dsc.Reinforced):
        keras.utils.set_random_seed(3)
        inputs = keras.Input((TIME, 2))
        outputs = keras.layers.Dense(1)(dsc.DSCLSTM(UNITS, 1)(inputs))
        model = kind(inputs, outputs)
        model.compile("adam", "mse")
        x = np.random.default_rng(1).normal(size=(BATCH, TIME, 2))
        history = model.fit(x, x[:, -1, :1], epochs=2, verbose=0).history
        found.append((history, model.get_weights()))
    (history, weights), (own_history, own_weights) = found
    assert history == own_history
    for one, other in zip(weights, own_weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_in_evaluation_the_agent_is_greedy_and_the_loss_is_the_models_own(rng):
    model = build()
    words, targets = data(rng)
    # The last batch is smaller.
    found = model.evaluate(
        words, targets, batch_size=BATCH - 1, return_dict=True, verbose=0
    )
    answers, logits, actions = forward(model, words, training=False)
    used = used_steps()
    np.testing.assert_array_equal(actions[used], logits.argmax(-1)[used])
    log_policy = log_softmax(logits[used])
    entropy = -(np.exp(log_policy) * log_policy).sum(-1).mean()
    own = -np.take_along_axis(log_softmax(answers), targets[:, None], -1).mean()
    expected = {
        "loss": own,
        "policy_entropy": entropy,
        "mean_skip_length": (K - actions[used]).mean(),
    }
    assert found == pytest.approx(expected, rel=1e-5)


def negative_losses(y, y_pred):
    losses = {name: ops.mean(ops.square(y[name] - y_pred[name]), -1) for name in y}
    return -(losses["tag"] + 0.25 * losses["sum"][:, None])


@pytest.mark.parametrize("reward", [None, negative_losses])
def test_losses_of_several_outputs_reward_together(reward, noise, rng):
    inputs = keras.Input((TIME, 2))
    steps, last = dsc.DSCLSTM(
        UNITS, K, agent_units=7, return_sequences=True, return_state=True
    )(inputs)[:2]
    outputs = {
        "tag": keras.layers.Dense(1, name="tag")(steps),
        "sum": keras.layers.Dense(1, name="sum")(last),
    }
    model = dsc.Reinforced(inputs, outputs, entropy_weight=0.0, reward=reward)
    model.compile(
        keras.optimizers.SGD(RATE),
        {"tag": "mse", "sum": "mse"},
        loss_weights={"tag": 1.0, "sum": 0.25},
    )
    x = rng.normal(size=(BATCH, TIME, 2)).astype("float32")
    y = {"tag": x[..., :1], "sum": x.sum(1)[:, :1]}
    with record_skips():
        found = model(x, training=True)
        (call,) = recorded_skips()
    of_step, of_sequence = (
        np.square(y[name] - ops.convert_to_numpy(found[name])).mean(-1)
        for name in ("tag", "sum")
    )
    rewards = -(of_step + 0.25 * of_sequence[:, None])
    weights = np.ones((BATCH, TIME))
    used = np.broadcast_to(np.arange(TIME) > 0, weights.shape).astype(float)
    logits, actions = (ops.convert_to_numpy(p) for p in (call.logits, call.actions))
    expected = expected_gradient(
        logits, actions, advantages(rewards, weights), used, 1.0, 0.0
    )
    np.testing.assert_allclose(gradient(model, x, y), expected, rtol=1e-3, atol=2e-6)
    if reward:
        weights = dict.fromkeys(y, np.ones((BATCH, 1)))
        with pytest.raises(ValueError, match="takes one sample_weight, not one for"):
            model.train_on_batch(x, y, weights)


def test_an_agent_that_nothing_rewards_is_refused(rng):
    inputs = keras.Input((TIME, 2))
    layer = dsc.DSCLSTM(UNITS, K, activity_regularizer="l2")
    model = dsc.Reinforced(inputs, layer(inputs))
    model.compile("sgd")
    with pytest.raises(ValueError, match="give compile a loss, or Reinforced a rew"):
        model.fit(np.zeros((BATCH, TIME, 2)), verbose=0)


# A Keras model


def test_a_saved_model_goes_on_training_the_same(rng, tmp_path):
    options = {
        "baseline": "standardised",
        "rl_weight": 0.5,
        "entropy_weight": 0.1,
        "credit": "last",
        "reward": is_right,
    }
    model = build(optimizer="adam", **options)
    batch = data(rng)
    model.train_on_batch(*batch)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert isinstance(loaded, dsc.Reinforced)
    assert {name: getattr(loaded, name) for name in options} == options
    for one in (model, loaded):
        np.testing.assert_allclose(
            one.predict(batch[0], verbose=0), model.predict(batch[0], verbose=0)
        )
        (cell,) = cells(one)
        assert np.any(cell.agent_logits.bias.numpy() != 0.1)
    assert loaded.train_on_batch(*batch) is not None


@pytest.mark.parametrize(
    ("name", "value"), [("baseline", "median"), ("credit", "first")]
)
def test_an_argument_out_of_range_is_named(name, value):
    with pytest.raises(ValueError, match=f"^{name} must be one of .*'{value}'"):
        build(**{name: value})


def test_time_distributed_is_refused(rng):
    inputs = keras.Input((2, TIME, 3))
    layer = keras.layers.TimeDistributed(dsc.DSCLSTM(UNITS, K))
    model = dsc.Reinforced(inputs, layer(inputs))
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match=r"TimeDistributed.*reshape the inputs"):
        model.fit(np.zeros((1, 2, TIME, 3)), np.zeros((1, 2, UNITS)), verbose=0)


@pytest.mark.filterwarnings("error:.*does not support masking")
def test_masks_of_the_model_cause_no_warning(rng):
    model = build(per_step=True, bidirectional=True)
    model.fit(*data(rng, per_step=True), verbose=0)


@pytest.mark.filterwarnings("ignore:Gradients do not exist")  # the agent's
def test_an_agent_that_no_loss_reaches_warns_once(rng):
    inputs = keras.Input((TIME, 3))
    model = keras.Model(inputs, dsc.DSCLSTM(UNITS, K)(inputs))
    model.compile("sgd", "mse", run_eagerly=EAGERLY)
    batch = np.zeros((BATCH, TIME, 3)), np.zeros((BATCH, UNITS))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.predict(batch[0], verbose=0)
        assert not [w for w in caught if "no policy loss" in str(w.message)]
        model.fit(*batch, batch_size=2, verbose=0)
    (said,) = [str(w.message) for w in caught if "no policy loss" in str(w.message)]
    assert "dsc.Reinforced" in said


@pytest.mark.filterwarnings("error:The agent")
def test_no_warning_where_the_agent_learns(rng):
    build().fit(*data(rng), verbose=0)
    dsc.DSCLSTM(UNITS, K, return_skips=True)(np.zeros((1, 2, 3)), training=True)
    dsc.DSCLSTM(UNITS, K, choice="attention")(np.zeros((1, 2, 3)), training=True)

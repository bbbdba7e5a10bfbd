"""The layer computes the paper's recurrence and behaves like a Keras layer."""

import itertools

import keras
import numpy as np
import pytest
import reference
import tensorflow as tf

from dsc import DSCLSTM, DSCLSTMCell, Skips, losses
from dsc.cell import BlockOrthogonal

BATCH = 3
FEATURES = 6
UNITS = 4
N_ACTIONS = 5
AGENT_UNITS = 9
TIME = 7
LAMDA = 0.625  # the same in float32 and float64

ZEROS = np.zeros((BATCH, UNITS))

both = pytest.mark.parametrize("implementation", ["plain", "fast"])


def make_layer(rng, n_actions=N_ACTIONS, **options):
    """A layer that returns everything: `(layer, reference.Weights)`."""
    options = {
        "return_sequences": True,
        "return_state": True,
        "return_skips": True,
        "dtype": "float64",
        **options,
    }
    layer = DSCLSTM(UNITS, n_actions, agent_units=AGENT_UNITS, **options)
    layer.build((None, None, FEATURES))
    return layer, reference.randomise(layer.cell, rng)


def draw(layer, rng, batch=BATCH):
    """Random arguments of `reference.dsc_lstm`, a dict."""
    n = layer.n_actions
    h, c = rng.normal(size=(2, batch, UNITS))
    # No run leads to this state: the newest state of the memory is not (h, c).
    memory = rng.normal(size=(2, batch, n, UNITS)) if layer.carry_memory else None
    return {
        "x": rng.normal(size=(batch, TIME, FEATURES)),
        "h": h,
        "c": c,
        "n_actions": n,
        "memory": memory,
        "noise": rng.gumbel(size=(batch, TIME, n)),
        "dropout_mask": rng.uniform(0.5, 2.0, (batch, TIME, UNITS)),
    }


def run(layer, x, h, c, n_actions, memory, **arguments):
    """What the layer returns for the arguments of `reference.dsc_lstm`."""
    state = [h, c, *(() if memory is None else memory)]
    return layer(x, initial_state=state, **arguments)


def force(actions):
    """Noise under which the argmax is at `actions`."""
    return 1e4 * np.eye(N_ACTIONS)[actions]


def assert_equals(results, expected, **tolerance):
    """Holds all that a layer returns against a `reference.Run`."""
    outputs, h, c, *memory, skips = results
    tolerance = tolerance or {"rtol": 1e-9, "atol": 1e-12}
    np.testing.assert_array_equal(skips.actions, expected.actions)
    for actual, part in (
        (outputs, expected.outputs),
        (skips.logits, expected.logits),
        (h, expected.h),
        (c, expected.c),
        *zip(memory, (expected.memory_h, expected.memory_c), strict=bool(memory)),
    ):
        np.testing.assert_allclose(actual, part, **tolerance)


def is_nothing(gradient):
    return gradient is None or not np.any(gradient)


# The recurrence


@both
@pytest.mark.parametrize("carry_memory", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {"lamda": 1.0},
        {"lamda": 0.6, "forget_bias": 0.3},  # which float32 would round
        {"lamda": 0.0},
        {"lamda": LAMDA, "observation": "last"},
        {"lamda": LAMDA, "observation": "states"},
        {"n_actions": 1, "forget_bias": 0.3},
        {"n_actions": 2, "lamda": LAMDA},
        {"n_actions": TIME + 4},
        {"choice": "fixed_skip", "lamda": LAMDA},
        {"choice": "random_skip"},
        {"choice": "random_skip", "shares": [0.1, 0.2, 0.4, 0.05, 0.25]},
        {"zoneout": 0.3, "lamda": LAMDA},
    ],
    ids=str,
)
def test_a_sequence_equals_the_numpy_loop(implementation, carry_memory, options, rng):
    layer, weights = make_layer(
        rng, implementation=implementation, carry_memory=carry_memory, **options
    )
    given = draw(layer, rng)
    expected = reference.dsc_lstm(weights, **{**given, **options})
    assert_equals(run(layer, **given), expected)
    if "zoneout" in options:
        given["zoneout_mask"] = rng.integers(0, 2, (BATCH, TIME, 2 * UNITS))
        masked = reference.dsc_lstm(weights, **{**given, **options})
        assert np.abs(masked.outputs - expected.outputs).max() > 0.1
        assert_equals(run(layer, **given), masked)


@pytest.mark.parametrize("carry_memory", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {"layer_norm": True, "lamda": LAMDA},
        {"choice": "attention", "lamda": LAMDA},
        {"choice": "attention", "observation": "last"},
        {"choice": "attention", "observation": "states"},
    ],
    ids=str,
)
def test_what_only_the_plain_loop_has_equals_the_numpy_loop(carry_memory, options, rng):
    test_a_sequence_equals_the_numpy_loop("auto", carry_memory, options, rng)


@pytest.mark.parametrize(
    "options",
    [{"n_actions": 1}, {"choice": "fixed_skip"}, {"choice": "random_skip"}],
    ids=str,
)
def test_without_an_agent_the_layer_has_the_weights_of_an_lstm(options, rng):
    layer, _ = make_layer(rng, **options)
    assert [w.name for w in layer.weights] == ["kernel", "recurrent_kernel", "bias"]


@both
@pytest.mark.parametrize("back", [1, 2, 3, N_ACTIONS])
def test_always_n_back_is_n_interleaved_lstms(implementation, back, rng):
    layer, weights = make_layer(rng, implementation=implementation)
    x = rng.normal(size=(BATCH, TIME, FEATURES))
    h, c = rng.normal(size=(2, BATCH, UNITS))
    actions = np.full((BATCH, TIME), N_ACTIONS - back)
    outputs = layer(x, noise=force(actions), initial_state=[h, c])[0]
    for strand in range(back):
        # The first step continues from (h, c); a choice that reaches back to before
        # it, where nothing is stored, is a choice of zeros.
        start = (h, c) if strand == 0 else (ZEROS, ZEROS)
        expected = reference.lstm(weights, x[:, strand::back], *start)
        np.testing.assert_allclose(outputs[:, strand::back], expected, rtol=1e-9)


@both
@pytest.mark.parametrize(
    "options",
    [
        {"lamda": LAMDA, "masked": True},
        {"lamda": LAMDA, "masked": True, "return_sequences": False},
        {"carry_memory": True, "observation": "states", "go_backwards": True},
        {"lamda": LAMDA, "zoneout": 0.3},
        {"n_actions": 1},
    ],
    ids=str,
)
def test_alternatives_are_the_outputs_of_forced_actions(implementation, options, rng):
    options = dict(options)
    masked = options.pop("masked", False)
    layer, _ = make_layer(
        rng, implementation=implementation, return_alternatives=True, **options
    )
    n = layer.n_actions
    given = draw(layer, rng, batch=len(MASK))
    *_, skips, alternatives = run(layer, mask=MASK if masked else None, **given)
    # Each row TIME * n times: one step is forced to one action, the others stay.
    forced = np.asarray(skips.actions)[:, None, None].repeat(n, 2).repeat(TIME, 1)
    for t, k in itertools.product(range(TIME), range(n)):
        forced[:, t, k, t] = k
    given["noise"] = 1e4 * np.eye(n)[forced.reshape(-1, TIME)]
    del given["n_actions"]
    for name in ("x", "h", "c", "dropout_mask"):
        given[name] = given[name].repeat(TIME * n, axis=0)
    if given["memory"] is not None:
        given["memory"] = given["memory"].repeat(TIME * n, axis=1)
    mask = MASK.repeat(TIME * n, axis=0) if masked else None
    outputs = run(layer, mask=mask, n_actions=n, **given)[0]
    outputs = np.reshape(outputs, (len(MASK), TIME, n, -1, UNITS))
    steps = np.arange(TIME)
    expected = outputs[:, steps, :, steps % outputs.shape[3]].swapaxes(0, 1)
    if masked:
        expected = expected * MASK[..., None, None]
        last = TIME - 1 - np.argmax(MASK[:, ::-1], axis=1)
    if not layer.return_sequences:
        expected = expected[np.arange(len(MASK)), last]
    np.testing.assert_allclose(alternatives, expected, rtol=1e-9, atol=1e-12)


# Windows


@both
@pytest.mark.parametrize("carry_memory", [False, True])
def test_no_initial_state_is_zeros(implementation, carry_memory, rng):
    layer, weights = make_layer(
        rng, implementation=implementation, carry_memory=carry_memory
    )
    x = rng.normal(size=(BATCH, TIME, FEATURES))
    noise = rng.gumbel(size=(BATCH, TIME, N_ACTIONS))
    expected = reference.dsc_lstm(weights, x, ZEROS, ZEROS, N_ACTIONS, noise=noise)
    assert_equals(layer(x, noise=noise, training=True), expected)
    zeros = layer.get_initial_state(BATCH)
    assert len(zeros) == (4 if carry_memory else 2)
    assert_equals(layer(x, noise=noise, initial_state=zeros), expected)


# Who learns from what


@both
def test_a_task_loss_trains_the_gates_and_a_policy_loss_the_agent(implementation, rng):
    layer, _ = make_layer(rng, implementation=implementation, lamda=LAMDA)
    given = draw(layer, rng)
    sources = [tf.constant(given[name]) for name in ("x", "h", "c")]
    advantage = rng.normal(size=(BATCH, TIME))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(sources)
        x, *state = sources
        outputs, h, c, skips = layer(x, initial_state=state, training=True)
        task_loss = sum(tf.reduce_sum(part**2) for part in (outputs, h, c))
        policy_loss = losses.reinforce(skips.logits, skips.actions, advantage)
        policy_loss -= tf.reduce_mean(losses.entropy(skips.logits))
    cell = layer.cell
    agent = [w.value for w in (*cell.agent_hidden.weights, *cell.agent_logits.weights)]
    gates = [w.value for w in (cell.kernel, cell.recurrent_kernel, cell.bias)]
    sources += gates
    for loss, learning, fixed in (
        (task_loss, sources, agent),
        (policy_loss, agent, sources),
    ):
        assert not any(map(is_nothing, tape.gradient(loss, learning)))
        assert all(map(is_nothing, tape.gradient(loss, fixed)))


@pytest.mark.parametrize(
    ("implementation", "layer_norm"),
    [("plain", False), ("plain", True), ("fast", False)],
)
@pytest.mark.parametrize(("logit", "scale"), [(1000.0, 1.0), (0.0, 1e6)])
def test_extremes_stay_finite(implementation, layer_norm, logit, scale, rng):
    layer, _ = make_layer(
        rng, implementation=implementation, layer_norm=layer_norm, dtype="float32"
    )
    layer.cell.agent_logits.bias.assign(logit * np.array([0.0, 1.0, -1.0, 0.0, 1.0]))
    x = tf.constant(scale * rng.normal(size=(BATCH, TIME, FEATURES)), "float32")
    with tf.GradientTape() as tape:
        tape.watch(x)
        outputs, h, c, skips = layer(x, training=True)
        loss = sum(map(tf.reduce_sum, (outputs, h, c, losses.entropy(skips.logits))))
        loss += losses.reinforce(skips.logits, skips.actions, 1.0)
    sources = [x, *(w.value for w in layer.trainable_weights)]
    gradients = tape.gradient(loss, sources, unconnected_gradients="zero")
    for part in (loss, outputs, h, c, skips.logits, *gradients):
        assert np.all(np.isfinite(part))


def test_attention_learns_from_the_task_alone(rng):
    layer, _ = make_layer(rng, choice="attention")
    x = tf.constant(rng.normal(size=(BATCH, TIME, FEATURES)))
    factors = rng.normal(size=(BATCH, TIME, UNITS))
    variables = layer.trainable_weights

    def loss():
        return tf.reduce_sum(layer(x)[0] * factors)

    with tf.GradientTape() as tape:
        value = loss()
    gradients = tape.gradient(value, [w.value for w in variables])
    assert len(gradients) == 3 + 4  # the LSTM's and the agent's
    for variable, gradient in zip(variables, gradients, strict=True):
        before = variable.numpy()
        direction = rng.normal(size=before.shape)
        ends = []
        for step in (1e-5, -1e-5):
            variable.assign(before + step * direction)
            ends.append(float(loss()))
        variable.assign(before)
        slope = (ends[0] - ends[1]) / 2e-5
        assert slope == pytest.approx(np.sum(gradient * direction), rel=1e-6)
        assert abs(slope) > 1e-4


# Chance


@both
def test_noise_none_samples_in_training_alone(implementation, rng):
    layer, _ = make_layer(rng, implementation=implementation)
    x = rng.normal(size=(BATCH, TIME, FEATURES))
    *_, greedy = layer(x)
    *_, first = layer(x, training=True)
    *_, second = layer(x, training=True)
    np.testing.assert_array_equal(greedy.actions, np.argmax(greedy.logits, axis=-1))
    assert np.any(first.actions != np.argmax(first.logits, axis=-1))
    assert np.any(first.actions != second.actions)


@both
def test_a_seeded_layer_repeats(implementation, rng):
    x = rng.normal(size=(BATCH, TIME, FEATURES))
    runs = []
    for seed in (11, 11, 12):
        layer, _ = make_layer(
            np.random.default_rng(0),
            implementation=implementation,
            recurrent_dropout=0.4,
            seed=seed,
        )
        runs.append([np.asarray(layer(x, training=True)[0]) for _ in range(2)])
    first, again, other = runs
    np.testing.assert_array_equal(first, again)
    assert np.abs(first[0] - other[0]).max() > 0.01
    assert np.abs(first[0] - first[1]).max() > 0.01


def test_the_layers_own_noise_samples_the_softmax(rng):
    logits = np.log([0.1, 0.4, 0.05, 0.25, 0.2]) + 3.0  # unnormalised
    layer, _ = make_layer(rng, seed=1)
    for weight in (layer.cell.agent_hidden.kernel, layer.cell.agent_hidden.bias):
        weight.assign(np.zeros(weight.shape))
    layer.cell.agent_logits.bias.assign(logits)
    *_, skips = layer(np.zeros((3000, TIME, FEATURES)), training=True)
    counts = np.bincount(np.ravel(skips.actions), minlength=N_ACTIONS)
    expected = np.size(skips.actions) * reference.softmax(logits)
    # The 99.9th percentile of chi-square with 4 degrees of freedom.
    assert np.sum((counts - expected) ** 2 / expected) < 18.467


def test_recurrent_dropout_drops_its_share_of_the_candidates(rng):
    batch, rate = 500, 0.4
    layer, weights = make_layer(rng, recurrent_dropout=rate, forget_bias=0.3)
    x = rng.normal(size=(batch, 1, FEATURES))
    h, c = np.zeros((2, batch, UNITS))  # from zeros, c is the candidate times its gate
    whole = reference.dsc_lstm(weights, x, h, c, N_ACTIONS, forget_bias=0.3).c
    np.testing.assert_allclose(layer(x)[2], whole, rtol=1e-9)
    factors = layer(x, training=True)[2] / whole
    dropped = np.isclose(factors, 0.0)
    np.testing.assert_allclose(factors[~dropped], 1 / (1 - rate), rtol=1e-6)
    # 4 standard errors of a share.
    assert abs(dropped.mean() - rate) < 4 * np.sqrt(rate * (1 - rate) / dropped.size)


# Masking

MASK = np.array(
    [
        [1, 1, 1, 1, 1, 1, 1],
        [0, 0, 1, 1, 1, 1, 1],  # left
        [1, 1, 1, 1, 0, 0, 0],  # right
        [1, 1, 0, 0, 0, 1, 1],  # middle
        [0, 1, 0, 1, 1, 1, 0],  # everywhere
        [0, 0, 0, 0, 0, 1, 0],
        [1, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0],
    ],
    bool,
)


def unpadded(
    weights,
    x,
    mask,
    h=None,
    c=None,
    n_actions=N_ACTIONS,
    memory=None,
    noise=None,
    dropout_mask=None,
    **options,
):
    """Each row's real steps alone through the NumPy loop, put back in their places."""
    if h is None:
        h = c = np.zeros((len(mask), UNITS))
    steps = {"x": x, "noise": noise, "dropout_mask": dropout_mask}
    steps = {name: array for name, array in steps.items() if array is not None}
    outputs = np.zeros((*mask.shape, UNITS))
    logits = np.zeros((*mask.shape, n_actions))
    actions = np.zeros(mask.shape, int)
    final_states = []
    for b, real in enumerate(mask):
        row = reference.dsc_lstm(
            weights,
            h=h[b : b + 1],
            c=c[b : b + 1],
            n_actions=n_actions,
            memory=None if memory is None else memory[:, b : b + 1],
            **{name: array[b : b + 1, real] for name, array in steps.items()},
            **options,
        )
        # A masked step repeats the last output, zeros before the first one.
        history = np.concatenate([np.zeros((1, UNITS)), row.outputs[0]])
        outputs[b] = history[np.cumsum(real)]
        logits[b, real] = row.logits[0]
        actions[b, real] = row.actions[0]
        final_states.append([part[0] for part in row[3:]])
    final_states = [np.stack(part) for part in zip(*final_states, strict=True)]
    return reference.Run(outputs, logits, actions, *final_states)


@both
@pytest.mark.parametrize("go_backwards", [False, True])
@pytest.mark.parametrize("carry_memory", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {"lamda": LAMDA},
        {"lamda": LAMDA, "observation": "last"},
        {"lamda": LAMDA, "observation": "states"},
        {"n_actions": 1},
    ],
    ids=str,
)
def test_padding_changes_nothing(
    implementation, go_backwards, carry_memory, options, rng
):
    layer, weights = make_layer(
        rng,
        implementation=implementation,
        go_backwards=go_backwards,
        carry_memory=carry_memory,
        **options,
    )
    given = draw(layer, rng, batch=len(MASK))  # the padding is not zeros
    results = run(layer, mask=MASK, **given)
    # Noise and dropout come in the order of processing, inputs and mask as they are.
    order = slice(None, None, -1) if go_backwards else slice(None)
    given["x"] = given["x"][:, order]
    expected = unpadded(weights, mask=MASK[:, order], **{**given, **options})
    assert_equals(results, expected)


@pytest.fixture
def padded(rng):
    """Inputs whose masked steps are zeros, as `keras.layers.Masking` wants them."""
    return rng.normal(size=(len(MASK), TIME, FEATURES)) * MASK[..., None]


@pytest.mark.parametrize(
    ("implementation", "has_noise"),
    [("plain", True), ("fast", True), ("fast", False)],
)
def test_keras_masking_reaches_the_layer(implementation, has_noise, padded, rng):
    layer, weights = make_layer(rng, implementation=implementation, dtype="float32")
    inputs = keras.Input((None, FEATURES))
    noise_input = keras.Input((None, N_ACTIONS)) if has_noise else None
    results = layer(keras.layers.Masking()(inputs), noise=noise_input)
    model = keras.Model([inputs, noise_input] if has_noise else inputs, results)
    noise = rng.gumbel(size=(*MASK.shape, N_ACTIONS)) if has_noise else None
    results = model.predict([padded, noise] if has_noise else padded, verbose=0)
    expected = unpadded(weights, padded, MASK, noise=noise)
    assert_equals(results, expected, atol=1e-5)


@pytest.mark.parametrize("return_skips", [False, True])
def test_the_mask_goes_on_to_the_next_layer(return_skips, padded, rng):
    lower, lower_weights = make_layer(
        rng, return_state=False, return_skips=return_skips, dtype="float32"
    )
    upper = DSCLSTM(UNITS, n_actions=2, agent_units=AGENT_UNITS)
    inputs = keras.Input((None, FEATURES))
    middle = lower(keras.layers.Masking()(inputs))
    model = keras.Model(inputs, upper(middle[0] if return_skips else middle))
    upper_weights = reference.randomise(upper.cell, rng)
    middle = unpadded(lower_weights, padded, MASK).outputs
    expected = unpadded(upper_weights, middle, MASK, n_actions=2).h
    np.testing.assert_allclose(model.predict(padded, verbose=0), expected, atol=1e-5)


# A Keras layer


@pytest.mark.parametrize("option", [{"choice": "attention"}, {"layer_norm": True}])
def test_the_fast_loop_refuses_what_the_plain_one_alone_does(option):
    with pytest.raises(ValueError, match="use 'plain' or 'auto'"):
        DSCLSTM(UNITS, N_ACTIONS, implementation="fast", **option)
    assert DSCLSTM(UNITS, N_ACTIONS, **option)(np.ones((2, 3, 4))).shape == (2, UNITS)


@pytest.mark.parametrize(
    ("sequences", "state", "skips", "carry_memory"),
    list(itertools.product([False, True], repeat=4)),
)
def test_what_is_returned_is_what_was_asked_for(
    sequences, state, skips, carry_memory, rng
):
    layer, _ = make_layer(
        rng,
        carry_memory=carry_memory,
        return_sequences=sequences,
        return_state=state,
        return_skips=skips,
    )
    x = rng.normal(size=(BATCH, TIME, FEATURES))
    for batch, time, inputs in (
        (BATCH, TIME, x),
        (None, None, keras.Input((None, FEATURES))),  # shapes without sizes
    ):
        results = layer(inputs)
        shapes = [(batch, time, UNITS) if sequences else (batch, UNITS)]
        if state:
            shapes += [(batch, UNITS)] * 2
        if state and carry_memory:
            shapes += [(batch, N_ACTIONS, UNITS)] * 2
        parts = list(results) if state or skips else [results]
        if skips:
            logits, actions = parts.pop()
            assert logits.shape == (batch, time, N_ACTIONS)
            assert (actions.shape, actions.dtype) == ((batch, time), "int32")
        assert [part.shape for part in parts] == shapes


@both
def test_a_model_takes_any_batch_and_time(implementation, rng):
    layer, weights = make_layer(rng, implementation=implementation, dtype="float32")
    model = keras.Sequential([layer])
    for batch, time in ((1, 1), (BATCH, TIME), (8, 2)):
        x = rng.normal(size=(batch, time, FEATURES))
        zeros = np.zeros((batch, UNITS))
        expected = reference.dsc_lstm(weights, x, zeros, zeros, N_ACTIONS)
        assert_equals(model.predict(x, verbose=0), expected, atol=1e-5)
    assert len(model.trainable_weights) == 7


# No argument has its default here.
CELL_ARGUMENTS = {
    "units": UNITS,
    "n_actions": N_ACTIONS,
    "lamda": 0.6,
    "forget_bias": 0.3,
    "agent_units": AGENT_UNITS,
    "observation": "last",
    "layer_norm": True,
    "zoneout": 0.2,
}
ARGUMENTS = CELL_ARGUMENTS | {
    "recurrent_dropout": 0.25,
    "carry_memory": True,
    "return_sequences": True,
    "return_state": True,
    "return_skips": True,
    "go_backwards": True,
    "implementation": "plain",
    "seed": 13,
}


@pytest.mark.parametrize(
    ("make", "arguments"), [(DSCLSTM, ARGUMENTS), (DSCLSTMCell, CELL_ARGUMENTS)]
)
def test_the_configuration_holds_every_argument(make, arguments):
    initializers = {
        "kernel_initializer": keras.initializers.RandomUniform(-0.1, 0.1, seed=1),
        "recurrent_initializer": BlockOrthogonal(seed=2),
        "bias_initializer": keras.initializers.Constant(0.7),
    }
    made = make(**arguments, **initializers, name="a_name", dtype="float16")
    again = make.from_config(made.get_config())
    config = again.get_config()
    assert config == made.get_config()
    assert {name: config[name] for name in arguments} == arguments
    cell = getattr(again, "cell", again)
    for name, initializer in initializers.items():
        assert type(getattr(cell, name)) is type(initializer)
        assert getattr(cell, name).get_config() == initializer.get_config()
    assert (again.name, again.dtype_policy.name) == ("a_name", "float16")
    assert cell.dtype_policy.name == "float16"


@both
def test_a_saved_model_loads_and_computes_the_same(implementation, rng, tmp_path):
    layer_norm = implementation == "plain"  # which alone has it
    changed = {"implementation": implementation, "layer_norm": layer_norm}
    layer = DSCLSTM(**{**ARGUMENTS, **changed})
    inputs = keras.Input((None, FEATURES))
    model = keras.Model(inputs, layer(inputs))
    weights = reference.randomise(layer.cell, rng)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    x = rng.normal(size=(BATCH, TIME, FEATURES))
    expected = reference.dsc_lstm(
        weights,
        x[:, ::-1],
        ZEROS,
        ZEROS,
        N_ACTIONS,
        lamda=0.6,
        forget_bias=0.3,
        observation="last",
        layer_norm=layer_norm,
        zoneout=0.2,
    )
    *results, skips = loaded.predict(x, verbose=0)
    assert_equals([*results, Skips(*skips)], expected, atol=1e-5)
    assert loaded.layers[-1].get_config() == layer.get_config()
    # Where DSCLSTM was imported, as a program does before it loads a model.
    assert keras.saving.get_registered_object("dsc>DSCLSTM") is DSCLSTM


@both
@pytest.mark.parametrize(
    ("policy", "dtype", "tolerance"),
    # Some roundings: eps is 1e-3 for float16 and 8e-3 for bfloat16.
    [("mixed_float16", "float16", 0.01), ("mixed_bfloat16", "bfloat16", 0.08)],
)
def test_mixed_precision_is_close(implementation, policy, dtype, tolerance, rng):
    layer, weights = make_layer(rng, implementation=implementation, dtype=policy)
    x = rng.normal(size=(BATCH, TIME, FEATURES))
    noise = force(rng.integers(0, N_ACTIONS, (BATCH, TIME)))
    with tf.GradientTape() as tape:
        results = layer(x, noise=noise)
        loss = tf.reduce_sum(tf.cast(results[0], "float32"))
    *parts, skips = results
    assert {part.dtype.name for part in (*parts, skips.logits)} == {dtype}
    assert {w.dtype for w in layer.weights} == {"float32"}
    gradient = tape.gradient(loss, layer.cell.recurrent_kernel.value)
    assert gradient.dtype.name == "float32" and np.any(gradient)
    expected = reference.dsc_lstm(weights, x, ZEROS, ZEROS, N_ACTIONS, noise=noise)
    results = tf.nest.map_structure(lambda part: tf.cast(part, "float64"), results)
    assert_equals(results, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("units", 0),
        ("units", 2.5),
        ("n_actions", 0),
        ("agent_units", -1),
        ("lamda", 2),
        ("lamda", -0.1),
        ("lamda", float("nan")),
        ("observation", "x"),
        ("recurrent_dropout", 1.0),
        ("recurrent_dropout", -0.1),
        ("implementation", "x"),
    ],
)
def test_an_argument_out_of_range_is_named(name, value):
    with pytest.raises(ValueError, match=f"^{name} must .*{value}"):
        DSCLSTM(**{"units": UNITS, "n_actions": N_ACTIONS, name: value})


def test_inputs_without_a_time_axis_are_refused():
    with pytest.raises(ValueError, match="expected ndim=3, found ndim=2"):
        DSCLSTM(UNITS, N_ACTIONS)(np.zeros((BATCH, FEATURES)))


@pytest.mark.parametrize("carry_memory", [False, True])
def test_an_initial_state_of_another_length_is_refused(carry_memory):
    layer = DSCLSTM(UNITS, N_ACTIONS, carry_memory=carry_memory)
    x = np.zeros((BATCH, TIME, FEATURES))
    right = 4 if carry_memory else 2
    wrong = [[ZEROS] * n for n in (1, 2, 3, 4, 5) if n != right]
    for state in (*wrong, tf.zeros((right, BATCH, UNITS))):
        with pytest.raises(ValueError, match="initial_state must be a list"):
            layer(x, initial_state=state)


def test_a_known_time_stays_known_and_a_batch_may_be_empty():
    layer = DSCLSTM(5, 3, return_sequences=True)
    layer.build((None, 4, 2))
    call = tf.function(layer).get_concrete_function(tf.TensorSpec([None, 4, 2]))
    assert call.outputs[0].shape.as_list() == [None, 4, 5]
    assert layer(np.zeros((0, 4, 2), np.float32)).shape == (0, 4, 5)

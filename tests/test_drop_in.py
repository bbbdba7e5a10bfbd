"""`DSCLSTM` in the place of `keras.layers.LSTM`: the same arguments, the same results.

Runs on the backend of Keras, whichever that is; see `test_backends`.
"""

import keras
import numpy as np
import pytest
from keras import ops

from dsc import DSCLSTM

BATCH, TIME, FEATURES, UNITS, K = 4, 6, 3, 5, 3
MASK = np.array(
    [[1, 1, 1, 1, 0, 0], [0, 0, 1, 1, 1, 1], [0, 1, 0, 1, 1, 0], [1] * 6], bool
)


def sequences(rng, batch=BATCH):
    return rng.normal(size=(batch, TIME, FEATURES)).astype("float32")


def pair(**options):
    """An LSTM of Keras, and the `DSCLSTM` with one action that was made from it."""
    lstm = keras.layers.LSTM(UNITS, **options)
    # Weights that are not zeros or ones, which would hide a wrong order.
    lstm.build((BATCH, TIME, FEATURES))
    for n, weight in enumerate(lstm.weights):
        weight.assign(keras.random.normal(weight.shape, seed=n))
    return lstm, DSCLSTM.from_lstm(lstm)


def arrays(results):
    return [ops.convert_to_numpy(part) for part in keras.tree.flatten(results)]


def assert_same(one, other, **tolerance):
    for actual, expected in zip(arrays(one), arrays(other), strict=True):
        np.testing.assert_allclose(actual, expected, **(tolerance or {"atol": 1e-5}))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"return_state": True, "go_backwards": True},
        # At masked steps before the first, Keras's backends differ without zeros.
        {
            "return_sequences": True,
            "zero_output_for_mask": True,
            "go_backwards": True,
        },
        {"unroll": True},
        {"use_bias": False, "return_state": True},
        {"unit_forget_bias": False},
    ],
)
@pytest.mark.parametrize("masked", [False, True])
def test_the_results_are_those_of_the_lstm(options, masked, rng):
    lstm, layer = pair(**options)
    x, mask = sequences(rng), MASK if masked else None
    state = [rng.normal(size=(BATCH, UNITS)).astype("float32") for _ in range(2)]
    assert_same(layer(x, mask=mask), lstm(x, mask=mask))
    assert_same(layer(x, state, mask), lstm(x, state, mask))


@pytest.mark.parametrize(
    "options", [{}, {"use_bias": False}, {"unit_forget_bias": False}]
)
def test_initial_weights_mean_what_they_do_in_an_lstm(options, rng):
    constants = {
        f"{name}_initializer": keras.initializers.Constant(value)
        for name, value in (("kernel", 0.1), ("recurrent", -0.2), ("bias", 0.3))
    }
    layer = DSCLSTM(UNITS, 1, **constants, **options)
    lstm = keras.layers.LSTM(UNITS, **constants, **options)
    assert_same(layer(x := sequences(rng)), lstm(x))


def test_more_actions_keep_the_weights_of_the_lstm(rng):
    lstm, one = pair(return_sequences=True)
    layer = DSCLSTM.from_lstm(lstm, n_actions=K, lamda=0.0)  # the newest state alone
    assert_same(layer(x := sequences(rng)), one(x))


def test_an_lstms_weights_are_refused_where_they_would_mean_another_order():
    lstm, layer = pair()
    with pytest.raises(ValueError, match="shape"):
        layer.set_weights(lstm.get_weights())
    with pytest.raises(ValueError, match="no weights yet"):
        DSCLSTM.from_lstm(keras.layers.LSTM(2))
    with pytest.raises(ValueError, match=r"^activation must be 'tanh', not 'relu'"):
        pair(activation="relu")
    with pytest.raises(ValueError, match="recurrent_dropout= the share to drop"):
        pair(recurrent_dropout=0.5)


def test_a_stateful_layer_goes_on_where_it_was(rng):
    lstm, layer = pair(stateful=True, return_sequences=True)
    x = [sequences(rng) for _ in range(3)]
    for batch in x[:2]:
        assert_same(layer(batch), lstm(batch))
    first = layer(x[2])
    for one in (layer, lstm):
        one.reset_state()
    assert_same(layer(x[2]), lstm(x[2]))
    assert not np.allclose(*arrays((first, layer(x[2]))))
    # A layer with a memory of its own needs no given state either.
    layer = DSCLSTM(UNITS, K, stateful=True, carry_memory=True, return_sequences=True)
    whole = layer(np.concatenate(x, axis=1))
    layer.reset_state()
    assert_same(ops.concatenate([layer(batch) for batch in x], axis=1), whole)


@pytest.mark.parametrize("kind", [keras.layers.LSTM, DSCLSTM])
@pytest.mark.parametrize("return_state", [False, True])
def test_bidirectional_zeroes_what_is_masked_and_returns_states(
    kind, return_state, rng
):
    layer = kind(UNITS, return_sequences=True, return_state=return_state)
    both = keras.layers.Bidirectional(layer)
    results = both(sequences(rng), mask=MASK)
    outputs, *states = results if return_state else [results]
    assert not np.any(ops.convert_to_numpy(outputs)[~MASK])
    assert [s.shape for s in states] == [(BATCH, UNITS)] * (4 * return_state)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_mask_survives_a_second_tensor(jit_compile, rng):
    if jit_compile and keras.backend.backend() == "torch":
        pytest.skip("torch.compile does not compile keras.layers.RNN")
    layer = DSCLSTM(UNITS, K, agent_units=4, implementation="plain")
    words = keras.Input((TIME,), dtype="int32")
    state = [keras.Input((UNITS,)) for _ in range(2)]
    vectors = keras.layers.Embedding(9, FEATURES, mask_zero=True)(words)
    model = keras.Model([words, *state], layer(vectors, initial_state=state))
    model.compile(jit_compile=jit_compile)
    ids = rng.integers(1, 9, MASK.shape) * MASK
    given = [rng.normal(size=(BATCH, UNITS)).astype("float32") for _ in range(2)]
    table = model.layers[1].embeddings
    vectors = ops.convert_to_numpy(table)[ids]
    expected = layer(vectors, initial_state=given, mask=MASK)
    assert_same(model.predict([ids, *given], verbose=0), expected)


# What training adds


def test_regularizers_and_constraints_are_those_of_the_lstm(rng):
    options = {
        f"{name}_regularizer": keras.regularizers.L2(0.1 * n)
        for n, name in enumerate(("kernel", "recurrent", "bias", "activity"), 1)
    }
    lstm, layer = pair(**options, return_sequences=True, return_state=True)
    x = sequences(rng)
    lstm(x), layer(x)
    np.testing.assert_allclose(
        *(sum(map(float, arrays(one.losses))) for one in (lstm, layer)), rtol=1e-5
    )
    skipping = DSCLSTM(
        UNITS, K, activity_regularizer=keras.regularizers.L2(1.0), return_skips=True
    )
    h, _ = skipping(x)
    (loss,) = skipping.losses
    np.testing.assert_allclose(
        *arrays((loss, ops.sum(ops.square(h)) / BATCH)), rtol=1e-5
    )
    names = "kernel", "recurrent", "bias"
    layer = DSCLSTM(UNITS, K, **{f"{name}_constraint": "non_neg" for name in names})
    layer.build((None, None, FEATURES))
    constrained = [w for w in layer.weights if "agent" not in w.path]
    assert [type(w.constraint).__name__ for w in constrained] == ["NonNeg"] * 3


def test_dropout_drops_inputs_at_all_steps_alike(rng):
    layer = DSCLSTM(UNITS, 1, dropout=0.5, return_sequences=True, use_bias=False)
    x = np.ones((200, TIME, 1), "float32")
    outputs = ops.convert_to_numpy(layer(x, training=True))
    dropped = np.all(outputs == 0, axis=-1)
    assert np.all(dropped.all(axis=1) == dropped.any(axis=1))
    assert 0.3 < dropped[:, 0].mean() < 0.7
    assert np.all(ops.convert_to_numpy(layer(x))[:, 0] != 0)


def test_the_recurrent_dropout_drops_candidates_and_says_so():
    assert "Unlike in `keras.layers.LSTM`" in DSCLSTM.__doc__


# What may stand around it


def test_integers_are_read_as_numbers(rng):
    layer = DSCLSTM(UNITS, K, agent_units=4)
    x = rng.integers(0, 3, (BATCH, TIME, FEATURES))
    assert_same(layer(x), layer(x.astype("float32")))


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "float16"])
def test_a_model_is_called_with_other_shapes(policy, rng):
    layer = DSCLSTM(UNITS, K, return_skips=True, agent_units=4, dtype=policy)
    inputs = keras.Input((None, FEATURES))
    inner = keras.Model(inputs, layer(inputs))
    outer = keras.Input((TIME, FEATURES), batch_size=BATCH)
    h, skips = keras.Model(outer, inner(outer))(sequences(rng))
    assert h.shape == (BATCH, UNITS)
    assert keras.backend.standardize_dtype(skips.actions.dtype) == "int32"


def test_an_output_has_its_shape_before_the_layer_is_built():
    layer = DSCLSTM(UNITS, K, return_state=True, return_skips=True)
    spec = layer.compute_output_spec(keras.KerasTensor((None, 7, FEATURES)))
    h, _, _, skips = spec
    assert (h.shape, skips.logits.shape) == ((None, UNITS), (None, 7, K))


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="not on torch in Keras")
def test_quantization_and_lora(rng):
    inputs = keras.Input((TIME, FEATURES))
    layer = DSCLSTM(UNITS, K, agent_units=4)
    model = keras.Model(inputs, keras.layers.Dense(2)(layer(inputs)))
    x = sequences(rng)
    before = model.predict(x, verbose=0)
    model.quantize("int8")
    np.testing.assert_allclose(model.predict(x, verbose=0), before, atol=0.05)
    layer = DSCLSTM(UNITS, K, agent_units=4, return_skips=True)
    _, skips = layer(x)
    layer.cell.agent_logits.enable_lora(2)
    layer.cell.agent_logits.lora_kernel_b.assign(np.ones((2, K)))
    changed = layer(x)[1]
    plain = DSCLSTM.from_config({**layer.get_config(), "implementation": "plain"})
    plain.build(x.shape)
    plain.cell.kernel.assign(layer.cell.kernel)
    plain.cell.recurrent_kernel.assign(layer.cell.recurrent_kernel)
    for name in ("agent_hidden", "agent_logits"):
        for to, of in zip(
            (getattr(plain.cell, name).kernel, getattr(plain.cell, name).bias),
            (getattr(layer.cell, name).kernel, getattr(layer.cell, name).bias),
            strict=True,
        ):
            to.assign(of)
    assert not np.allclose(*arrays((skips.logits, changed.logits)))
    assert_same(changed.logits, plain(x)[1].logits)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow Lite")
@pytest.mark.filterwarnings("ignore")  # of TensorFlow about itself
@pytest.mark.parametrize(
    "options",
    [
        {"unroll": True, "lamda": 0.5},
        *(
            pytest.param(options, marks=pytest.mark.slow)
            for options in (
                {"unroll": True, "n_actions": 1},
                {"unroll": True, "n_actions": 5, "layer_norm": True},
                {"unroll": True, "choice": "fixed_skip"},
                {"unroll": True, "choice": "random_skip"},
                {"unroll": True, "choice": "attention"},
                {"implementation": "plain"},
                {"implementation": "xla"},
            )
        ),
    ],
    ids=str,
)
def test_tensorflow_lite_computes_the_same(options, rng):
    import tensorflow as tf

    x = sequences(rng)[:, :3]
    # Loops need a known batch size, as that of an LSTM does.
    inputs = keras.Input(x.shape[1:], None if "unroll" in options else BATCH)
    layer = DSCLSTM(UNITS, **{"n_actions": K, "agent_units": 4, **options})
    model = keras.Model(inputs, layer(inputs))
    converted = tf.lite.TFLiteConverter.from_keras_model(model).convert()
    interpreter = tf.lite.Interpreter(model_content=converted)
    (given,) = interpreter.get_input_details()
    (output,) = interpreter.get_output_details()
    interpreter.resize_tensor_input(given["index"], x.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(given["index"], x)
    interpreter.invoke()
    assert_same(interpreter.get_tensor(output["index"]), model(x))


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("mask", (BATCH, TIME, 1)),
        ("noise", (BATCH, TIME + 1, K)),
        ("dropout_mask", (BATCH, TIME, UNITS + 1)),
    ],
)
def test_a_tensor_of_another_shape_is_refused(name, shape, rng):
    layer = DSCLSTM(UNITS, K, agent_units=4)
    with pytest.raises(ValueError, match=f"{name} must have the shape"):
        layer(sequences(rng), **{name: np.ones(shape, "float32")})


def test_noise_in_half_precision_forces_an_action_and_has_no_ties(rng):
    layer = DSCLSTM(UNITS, K, agent_units=4, return_skips=True, dtype="float16")
    actions = rng.integers(0, K, (BATCH, TIME))
    forced = layer(sequences(rng), noise=1e6 * np.eye(K)[actions])[1].actions
    np.testing.assert_array_equal(ops.convert_to_numpy(forced), actions)
    drawn = layer._gumbel((1000,))
    assert keras.backend.standardize_dtype(drawn.dtype) == "float32"
    assert len(np.unique(ops.convert_to_numpy(drawn))) > 990

"""The fast TensorFlow loop equals the plain loop, and its gradient is a gradient."""

import keras
import numpy as np
import pytest
import reference
import tensorflow as tf
from test_layer import BATCH, FEATURES, LAMDA, TIME, UNITS, make_layer

from dsc import DSCLSTM

slow = pytest.mark.slow
MASK = np.array(
    [[1, 1, 0, 0, 1, 1, 1], [0, 1, 1, 0, 1, 1, 0], [1, 1, 1, 1, 1, 0, 0]], bool
)


def layer_of(implementation, n_actions, **options):
    """A layer with weights that depend on the sizes alone."""
    rng = np.random.default_rng(0)
    return make_layer(rng, n_actions, implementation=implementation, **options)[0]


def arrays(rng, n_actions, carry_memory, dtype="float64", batch=BATCH, time=TIME):
    """`(x and the initial state, noise, dropout mask)`."""
    shapes = [(batch, time, FEATURES), *[(batch, UNITS)] * 2]
    if carry_memory:
        shapes += [(batch, n_actions, UNITS)] * 2
    given = [tf.constant(rng.normal(size=shape), dtype) for shape in shapes]
    noise = tf.constant(rng.gumbel(size=(batch, time, n_actions)), dtype)
    dropout_mask = tf.constant(rng.uniform(0.5, 2.0, (batch, time, UNITS)), dtype)
    return given, noise, dropout_mask


def run(layer, given, **arguments):
    """`(results, gradients)`, flat, of a loss that weighs every number differently."""
    with tf.GradientTape() as tape:
        tape.watch(given)
        results = tf.nest.flatten(layer(given[0], initial_state=given[1:], **arguments))
        loss = 0.0
        for n, part in enumerate(results[:-1]):  # the last are the actions
            weights = tf.sin(n + 1.7 * tf.range(tf.size(part), dtype=part.dtype))
            loss += tf.reduce_sum(part * tf.reshape(weights, tf.shape(part)))
    sources = [*given, *(w.value for w in layer.trainable_weights)]
    return results, tape.gradient(loss, sources)


def assert_same(plain, fast, tolerance):
    for actual, expected in zip(
        (*fast[0], *fast[1]), (*plain[0], *plain[1]), strict=True
    ):
        np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    ("n_actions", "carry_memory"), [(1, False), (2, True), (5, False)]
)
@pytest.mark.parametrize(
    "options",
    [
        {"lamda": 1.0, "greedy": True},
        {"lamda": 0.0, "dropout": True},
        {"lamda": LAMDA, "observation": "last", "dropout": True},
        {"lamda": LAMDA, "mask": MASK},
        {"lamda": 1.0, "observation": "last", "mask": MASK, "dropout": True},
        {"lamda": LAMDA, "go_backwards": True, "mask": MASK, "dtype": "float32"},
        {"lamda": LAMDA, "choice": "random_skip", "mask": MASK},
        {"lamda": LAMDA, "zoneout": 0.3, "mask": MASK, "dropout": True},
        {"lamda": LAMDA, "observation": "states", "mask": MASK},
    ],
    ids=lambda options: "-".join(options),
)
def test_fast_equals_plain(options, carry_memory, n_actions, rng):
    options = dict(options)
    dtype = options.pop("dtype", "float64")
    greedy, dropout = options.pop("greedy", False), options.pop("dropout", False)
    mask = options.pop("mask", None)
    given, noise, dropout_mask = arrays(rng, n_actions, carry_memory, dtype)
    zoneout_mask = rng.integers(0, 2, (BATCH, TIME, 2 * UNITS))
    plain, fast = (
        run(
            layer_of(
                implementation,
                n_actions,
                carry_memory=carry_memory,
                dtype=dtype,
                **options,
            ),
            given,
            noise=None if greedy else noise,
            dropout_mask=dropout_mask if dropout else None,
            zoneout_mask=zoneout_mask if "zoneout" in options else None,
            mask=mask,
        )
        for implementation in ("plain", "fast")
    )
    # Noise spreads the choices, so that their gradients meet in one state.
    assert greedy or n_actions == 1 or len(np.unique(plain[0][-1])) > 1
    assert_same(plain, fast, 1e-5 if dtype == "float32" else 1e-10)


@pytest.mark.parametrize(
    ("n_actions", "options"),
    [
        (1, {"dropout": True}),
        pytest.param(5, {"lamda": LAMDA, "carry_memory": True}, marks=slow),
        pytest.param(
            5, {"observation": "last", "mask": MASK, "dropout": True}, marks=slow
        ),
        pytest.param(5, {"choice": "random_skip"}, marks=slow),
        pytest.param(5, {"observation": "states", "mask": MASK}, marks=slow),
    ],
)
def test_compiled_by_xla_it_equals_plain(n_actions, options, rng):
    options = dict(options)
    mask, dropout = options.pop("mask", None), options.pop("dropout", False)
    given, noise, dropout_mask = arrays(
        rng, n_actions, options.get("carry_memory", False)
    )
    tensors = {"noise": noise, "dropout_mask": dropout_mask if dropout else None}
    plain, xla, fast = (
        layer_of(implementation, n_actions, **options)
        for implementation in ("plain", "xla", "fast")
    )

    def compute(layer):
        return run(layer, given, mask=mask, **tensors)

    compiled = tf.function(compute, autograph=False)
    jitted = tf.function(compute, autograph=False, jit_compile=True)
    expected = compute(plain)
    assert_same(expected, compiled(xla), 1e-10)  # also where XLA does not compile it
    assert_same(expected, jitted(fast), 1e-10)  # it is the same loop there


@pytest.mark.parametrize("carry_memory", [False, True])
def test_one_trace_serves_any_batch_and_time(carry_memory, rng):
    n_actions = 5
    plain, fast = (
        layer_of(implementation, n_actions, carry_memory=carry_memory, lamda=LAMDA)
        for implementation in ("plain", "fast")
    )

    def spec(*shape, dtype="float64"):
        return tf.TensorSpec((None, *shape), dtype)

    memory = [spec(n_actions, UNITS)] * 2 if carry_memory else []
    given = [spec(None, FEATURES), spec(UNITS), spec(UNITS), *memory]

    tensors = [spec(None, n_actions), spec(None, UNITS), spec(None, dtype="bool")]

    @tf.function(input_signature=[given, *tensors], autograph=False)
    def compiled(given, noise, dropout_mask, mask):
        return run(fast, given, noise=noise, dropout_mask=dropout_mask, mask=mask)

    for batch, time in ((BATCH, TIME), (8, 10), (1, 1)):
        given, noise, dropout_mask = arrays(
            rng, n_actions, carry_memory, batch=batch, time=time
        )
        mask = rng.uniform(size=(batch, time)) < 0.7
        expected = run(plain, given, noise=noise, dropout_mask=dropout_mask, mask=mask)
        actual = compiled(given, noise, dropout_mask, tf.constant(mask))
        assert_same(expected, actual, 1e-10)
    assert compiled.experimental_get_tracing_count() == 1


def test_layers_in_one_function_keep_their_states_apart(rng):
    # Equal sizes, initial states and gradients of the outputs: TensorFlow merges equal
    # tensors, and what is written in place must not be among them.
    layers = [
        DSCLSTM(UNITS, n_actions=1, return_sequences=True, implementation="fast")
        for _ in range(5)
    ]
    x = tf.constant(rng.normal(size=(BATCH, 50, FEATURES)), "float32")

    def outputs_and_gradients():
        with tf.GradientTape() as tape:
            outputs = [layer(x) for layer in layers]
            loss = sum(map(tf.reduce_sum, outputs))
        kernels = [layer.cell.recurrent_kernel.value for layer in layers]
        return outputs, tape.gradient(loss, kernels)

    expected = tf.nest.flatten(outputs_and_gradients())
    compiled = tf.function(outputs_and_gradients, autograph=False)
    for _ in range(20):  # which loop would overwrite the other is left to chance
        for actual, part in zip(tf.nest.flatten(compiled()), expected, strict=True):
            np.testing.assert_allclose(actual, part, rtol=1e-4, atol=1e-5)


def test_a_persistent_tape_in_a_function_gives_the_same_gradients(rng):
    layer = layer_of("fast", n_actions=5, lamda=LAMDA)
    x = tf.constant(rng.normal(size=(BATCH, TIME, FEATURES)))
    noise = tf.constant(rng.gumbel(size=(BATCH, TIME, 5)))

    def gradients(persistent):
        with tf.GradientTape(persistent=persistent) as tape:
            outputs, _, c, skips = layer(x, noise=noise)
            loss = sum(tf.reduce_sum(part**2) for part in (outputs, c, skips.logits))
        return tape.gradient(loss, [w.value for w in layer.trainable_weights])

    found = tf.function(gradients, autograph=False)(persistent=True)
    for actual, expected in zip(found, gradients(persistent=False), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.filterwarnings("ignore:Gradients do not exist")  # the agent's
@pytest.mark.filterwarnings("ignore:Model doesn't support `jit_compile")
@pytest.mark.parametrize("implementation", ["fast", pytest.param("xla", marks=slow)])
def test_keras_may_ask_for_xla(implementation, rng):
    model = keras.Sequential([DSCLSTM(UNITS, 5, implementation=implementation)])
    model.compile("sgd", "mse", jit_compile=True)
    assert model.jit_compile == (implementation == "xla")
    x = rng.normal(size=(BATCH, TIME, FEATURES))
    history = model.fit(x, np.zeros((BATCH, UNITS)), verbose=0).history
    assert np.isfinite(history["loss"][0])


@pytest.mark.parametrize("carry_memory", [False, True])
def test_the_gradient_is_that_of_the_numpy_loop(carry_memory, rng):
    """By central differences; the actions are forced, so that they stay the same."""
    n_actions = 5
    options = {"lamda": LAMDA, "forget_bias": 0.3}
    layer = layer_of("fast", n_actions, carry_memory=carry_memory, **options)
    given, _, dropout_mask = arrays(rng, n_actions, carry_memory)
    actions = rng.integers(0, n_actions, (BATCH, TIME))
    noise = 1e4 * np.eye(n_actions)[actions]
    d_outputs = rng.normal(size=(BATCH, TIME, UNITS))
    d_logits = rng.normal(size=(BATCH, TIME, n_actions))
    d_c = rng.normal(size=(BATCH, UNITS))
    with tf.GradientTape() as tape:
        tape.watch(given)
        outputs, _, c, *_, skips = layer(
            given[0], noise=noise, initial_state=given[1:], dropout_mask=dropout_mask
        )
        parts = ((outputs, d_outputs), (c, d_c), (skips.logits, d_logits))
        loss = sum(tf.reduce_sum(part * d_part) for part, d_part in parts)
    cell = layer.cell
    lstm = [cell.kernel, cell.recurrent_kernel, cell.bias]
    agent = [*cell.agent_hidden.weights, *cell.agent_logits.weights]
    sources = [*given, *(w.value for w in (*lstm, *agent))]
    gradients = tape.gradient(loss, sources)

    numbers = [np.asarray(source) for source in sources]
    first_weight, first_agent = len(given), len(given) + len(lstm)

    def numpy_loss(n, value):
        """The loss as a function of one of the sources."""
        changed = [*numbers[:n], value, *numbers[n + 1 :]]
        x, h, c, *memory = changed[:first_weight]
        lstm_weights = changed[first_weight:first_agent]
        weights = reference.Weights(*lstm_weights, changed[first_agent:])
        result = reference.dsc_lstm(
            weights,
            x,
            h,
            c,
            n_actions,
            memory=memory or None,
            noise=noise,
            dropout_mask=np.asarray(dropout_mask),
            **options,
        )
        # The agent's gradient stops at what it sees: the logits count for its own
        # weights alone, and with forced actions nothing else depends on those.
        if n >= first_agent:
            return np.sum(result.logits * d_logits)
        return np.sum(result.outputs * d_outputs) + np.sum(result.c * d_c)

    # Along one random direction a source: all entries count, at the cost of one.
    for n, (gradient, number) in enumerate(zip(gradients, numbers, strict=True)):
        direction = rng.normal(size=number.shape)

        def along(distance, n=n, start=number, direction=direction):
            return numpy_loss(n, start + distance * direction)

        slope = reference.numerical_gradient(along, np.zeros(()))
        assert abs(slope) > 0.01
        np.testing.assert_allclose(np.sum(gradient * direction), slope, rtol=1e-6)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("implementation", ["fast", "xla"])
def test_the_dropout_mask_has_the_gradient_of_the_plain_loop(
    implementation, masked, rng
):
    x, factors = (
        tf.constant(rng.normal(size=(BATCH, TIME, n))) for n in (FEATURES, UNITS)
    )
    mask = rng.integers(0, 2, (BATCH, TIME)) > 0 if masked else None
    found = []
    for kind in ("plain", implementation):
        layer = layer_of(kind, 3, lamda=LAMDA, zoneout=0.3 * masked)
        with tf.GradientTape() as tape:
            tape.watch(factors)
            outputs = layer(x, dropout_mask=factors, mask=mask)[0]
            loss = tf.reduce_sum(tf.square(outputs))
        found.append(tape.gradient(loss, factors))
    assert np.any(found[0])
    np.testing.assert_allclose(found[1], found[0], rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("implementation", ["fast", "xla"])
def test_second_derivatives_are_refused_in_a_sentence(implementation, rng):
    x = tf.constant(rng.normal(size=(BATCH, TIME, FEATURES)))
    layer = layer_of(implementation, 3)
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as inner:
            inner.watch(x)
            outputs = tf.reduce_sum(tf.square(layer(x)[0]))
        penalty = tf.reduce_sum(tf.square(inner.gradient(outputs, x)))
    with pytest.raises(LookupError, match=r"no second derivatives .*use 'plain'"):
        outer.gradient(penalty, x)

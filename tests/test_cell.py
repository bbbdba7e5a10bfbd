"""One step is the paper's step, and the weights start as the release's do."""

import keras
import numpy as np
import pytest
import reference

from dsc import DSCLSTMCell
from dsc.cell import BlockOrthogonal, lstm_gates

BATCH = 3
FEATURES = 6
UNITS = 4
N_ACTIONS = 5
AGENT_UNITS = 9
TIME = 7


@pytest.mark.parametrize(
    ("open_gates", "expected_c"),
    [
        # A gate at +100 is open, at -100 shut. c = 3 at forget, tanh(100) = 1 at input.
        ("", 0.0),
        ("i", 1.0),
        ("f", 3.0),
        ("if", 4.0),
    ],
)
@pytest.mark.parametrize("exposed", [True, False])
def test_pre_activations_are_in_the_order_i_j_f_o(open_gates, expected_c, exposed):
    i, f = (100.0 if gate in open_gates else -100.0 for gate in "if")
    o = 100.0 if exposed else -100.0
    gates = [np.array([[gate]], "float32") for gate in (i, 100.0, f, o)]
    h, c = lstm_gates(gates, np.array([[3.0]], "float32"), forget_bias=0.0)
    np.testing.assert_allclose(c, [[expected_c]], atol=1e-6)
    np.testing.assert_allclose(h, [[np.tanh(expected_c) * exposed]], atol=1e-6)


# The cell in Keras


def test_the_cell_in_keras_rnn_is_greedy_and_survives_a_save(rng, tmp_path):
    cell = DSCLSTMCell(UNITS, N_ACTIONS, lamda=0.6, agent_units=AGENT_UNITS)
    rnn = keras.layers.RNN(cell, return_sequences=True)
    model = keras.Sequential([keras.Input((None, FEATURES)), rnn])
    weights = reference.randomise(cell, rng)
    model.save(tmp_path / "model.keras")
    x = rng.normal(size=(BATCH, TIME, FEATURES))
    zeros = np.zeros((BATCH, UNITS))
    expected = reference.dsc_lstm(weights, x, zeros, zeros, N_ACTIONS, lamda=0.6)
    assert len(np.unique(expected.actions)) > 2  # the greedy choice is a choice
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for training in (False, True):
        outputs = loaded(x, training=training)
        np.testing.assert_allclose(outputs, expected.outputs, atol=1e-5)


def test_inputs_of_unknown_size_are_refused():
    with pytest.raises(ValueError, match="last axis of the inputs"):
        DSCLSTMCell(UNITS, N_ACTIONS).build((None, None))


# Initial weights


def test_each_recurrent_block_is_orthogonal_and_the_blocks_differ(rng):
    cell = DSCLSTMCell(UNITS, N_ACTIONS)
    cell.build((None, FEATURES))
    blocks = np.split(cell.recurrent_kernel, 4, axis=1)
    for n, block in enumerate(blocks):
        np.testing.assert_allclose(block @ block.T, np.eye(UNITS), atol=1e-5)
        for other in blocks[:n]:
            assert np.abs(block - other).max() > 0.1


def test_orthogonal_blocks_have_no_preferred_sign(rng):
    # An uncorrected QR decomposition gives every Q a first entry of the same sign.
    corners = [
        float(BlockOrthogonal(seed)((UNITS, 4 * UNITS))[0, 0]) for seed in range(60)
    ]
    # Fair signs: 30 of 60 +- 4 standard errors of sqrt(60) / 2.
    assert 15 <= np.sum(np.greater(corners, 0)) <= 45


def test_a_seeded_initializer_repeats_and_an_unseeded_one_follows_the_global_seed():
    shape = (UNITS, 4 * UNITS)
    seeded = BlockOrthogonal(seed=1)
    np.testing.assert_array_equal(seeded(shape), seeded(shape))
    np.testing.assert_array_equal(seeded(shape), BlockOrthogonal(seed=1)(shape))
    keras.utils.set_random_seed(1)
    first, second = BlockOrthogonal()(shape), BlockOrthogonal()(shape)
    another = BlockOrthogonal(seed=2)(shape)
    for one, other in ((first, second), (seeded(shape), another)):
        assert np.abs(one - other).max() > 0.1
    keras.utils.set_random_seed(1)
    np.testing.assert_array_equal(BlockOrthogonal()(shape), first)


def test_an_initializer_with_a_generator_survives_serialisation():
    initializer = BlockOrthogonal(seed=keras.random.SeedGenerator(1))
    serialized = keras.saving.serialize_keras_object(initializer)
    again = keras.saving.deserialize_keras_object(serialized)
    assert again((UNITS, 4 * UNITS)).shape == (UNITS, 4 * UNITS)


def test_the_agent_starts_as_in_the_release(rng):
    cell = DSCLSTMCell(units=150, n_actions=N_ACTIONS)
    cell.build((None, FEATURES))
    kernel_1, bias_1, kernel_2, bias_2 = map(
        np.asarray, (*cell.agent_hidden.weights, *cell.agent_logits.weights)
    )
    assert (kernel_1.shape, kernel_2.shape) == ((156, 200), (200, N_ACTIONS))
    for kernel in (kernel_1, kernel_2):
        # 4 standard errors of a standard deviation: 4 * 0.3 / sqrt(2 n).
        margin = 1.2 / np.sqrt(2 * kernel.size)
        assert abs(kernel.std() - 0.3) < margin
        assert abs(kernel.mean()) < np.sqrt(2) * margin
    for bias in (bias_1, bias_2):
        np.testing.assert_array_equal(bias, np.full_like(bias, 0.1))

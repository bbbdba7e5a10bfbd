"""Number prediction: its data, its loss, its batches, its scores."""

import dataclasses
import io
import math
import os

import keras
import numpy as np
import pytest
import tensorflow as tf

from dsc import Skips
from dsc.cli.errors import RunError
from dsc.recipes import NUMBER_PREDICTION
from number_prediction import LAST_ACTIONS
from number_prediction.model import NumberPredictor, Outputs, is_right, loss
from number_prediction.produce_data import (
    SPLITS,
    DataError,
    digests,
    file_name,
    read,
    write,
)
from number_prediction.task import (
    NumberPrediction,
    counts,
    describe_confusion,
    describe_places,
)

BATCH, TIME, UNITS, ACTIONS = 4, 7, 6, 3
RELEASED = NUMBER_PREDICTION["released"]
# With weights of its own: the tests do not depend on how the recipe is tuned.
CORRECTED = dataclasses.replace(
    NUMBER_PREDICTION["corrected"], rl_weight=0.7, entropy_weight=0.05
)
SIZES = {"train": 4000, "valid": 300, "test": 200}


def made(
    folder, sequence_length=10, sizes=SIZES, seed=5, released_data=False, n_numbers=10
):
    path = folder / file_name(sequence_length, released_data, n_numbers)
    write(path, sequence_length, sizes, seed, released_data, n_numbers)
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return read(made(tmp_path_factory.mktemp("data")), 10)


# Data


@pytest.mark.parametrize(
    ("sequence_length", "n_numbers"),
    [(10, 10), (20, 10), (100, 10), (2, 2), (7, 7), (25, 25), (31, 25), (256, 256)],
)
def test_the_answer_is_the_number_at_the_indexed_place_of_the_last(
    tmp_path, sequence_length, n_numbers
):
    sizes = {"train": 70, "valid": 30, "test": 20}
    path = made(tmp_path, sequence_length, sizes, n_numbers=n_numbers)
    splits = read(path, sequence_length, n_numbers)
    for split, n in sizes.items():
        x, y = splits[split]
        assert x.shape == (n, sequence_length + 1) and x.dtype == y.dtype == np.int32
        for row, answer in zip(x, y, strict=True):
            last = row[:-1][-n_numbers:]
            assert answer == last[row[-1]]


@pytest.mark.parametrize(
    ("n_numbers", "bound"),  # of n_numbers - 1 degrees of freedom: 1 in 10,000
    [(7, 27.9), (10, 33.7), (25, 58.6)],
)
def test_numbers_and_answers_are_uniform(tmp_path, n_numbers, bound):
    x, y = read(made(tmp_path, 30, n_numbers=n_numbers), 30, n_numbers)["train"]
    for numbers in (x[:, :-1], x[:, -1], y):
        counts = np.bincount(numbers.ravel(), minlength=n_numbers)
        expected = numbers.size / n_numbers
        assert len(counts) == n_numbers
        assert np.sum((counts - expected) ** 2 / expected) < bound


def test_the_digits_of_a_seed_stay_what_they_are(data):
    # From before there were other numbers: with other digits, other results.
    assert digests(data) == {
        "train": "0e54fb6c963b2b43",
        "valid": "7e587938312d7f00",
        "test": "717cc6b75c9af371",
    }


def test_no_sequence_of_one_split_is_in_another(data):
    rows = {split: {row.tobytes() for row in x} for split, (x, _) in data.items()}
    assert len(rows["train"]) == SIZES["train"]  # of 10^11 sequences none comes twice
    assert len(set.union(*rows.values())) == sum(SIZES.values())


def test_a_seed_writes_the_same_bytes_again_and_another_seed_others(tmp_path):
    paths = [
        made(tmp_path / name, seed=s) for name, s in [("a", 5), ("b", 5), ("c", 6)]
    ]
    first, again, other = (path.read_bytes() for path in paths)
    assert first == again != other
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["digits_10.npz"]


@pytest.mark.parametrize("sequence_length", [10, 20])
def test_released_data_are_a_cut_out_of_101_digits_with_a_meaningless_answer(
    tmp_path, sequence_length
):
    path = made(tmp_path, sequence_length, released_data=True)
    x, y = read(path, sequence_length)["train"]
    whole, _ = read(made(tmp_path, 100), 100)["train"]  # the same draws, uncut
    np.testing.assert_array_equal(x, whole[:, : sequence_length + 1])
    np.testing.assert_array_equal(y, whole[:, sequence_length + 1])
    # A tenth of the answers are right by chance, and no more.
    right = x[np.arange(len(y)), sequence_length - 10 + x[:, -1]] == y
    assert abs(right.mean() - 0.1) < 4 * math.sqrt(0.09 / len(y))


def test_files_of_another_length_or_recipe_or_other_numbers_have_another_name():
    names = {file_name(n, released) for n in (10, 20) for released in (False, True)}
    names |= {file_name(n, n_numbers=r) for r, n in ((7, 25), (25, 25), (25, 70))}
    assert names == {
        "digits_10.npz",
        "digits_20.npz",
        "digits_10_released.npz",
        "digits_20_released.npz",
        "numbers_below_7_25.npz",
        "numbers_below_25_25.npz",
        "numbers_below_25_70.npz",
    }


def test_a_file_that_cannot_be_written_is_named_and_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunError, match=r"--data_dir: cannot write to .*digits_10.npz"):
        made(tmp_path / "file")


def test_a_write_that_fails_keeps_the_old_file(tmp_path, monkeypatch):
    path = made(tmp_path)
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(RunError, match="No space left on device"):
        made(tmp_path, seed=6)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


# What is no data file


def arrays(**changed):
    rng = np.random.default_rng(1)
    good = {}
    for split, n in zip(SPLITS, (7, 5, 3), strict=True):
        good[f"x_{split}"] = rng.integers(0, 10, (n, 11), dtype=np.uint8)
        good[f"y_{split}"] = rng.integers(0, 10, n, dtype=np.uint8)
    return {k: v for k, v in (good | changed).items() if v is not None}


def packed(**changed):
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays(**changed))
    return buffer.getvalue()


def refusal(path):
    """The sentence with which a file is refused: one line that names it."""
    with pytest.raises(DataError) as error:
        read(path, 10)
    message = str(error.value)
    assert str(path) in message and "\n" not in message
    return message


def test_the_arrays_that_the_tests_damage_are_right_before(tmp_path):
    path = tmp_path / "digits_10.npz"
    path.write_bytes(packed())
    np.testing.assert_array_equal(read(path, 10)["test"][0], arrays()["x_test"])


@pytest.mark.parametrize(
    "changed",
    [
        {"x_valid": None},
        {"y_test": None},
        {"x_train": np.zeros(7, np.uint8)},
        {"x_train": np.zeros((7, 11, 1), np.uint8)},
        {"y_train": np.zeros(6, np.uint8)},
        {"y_train": np.zeros((7, 1), np.uint8)},
        {"x_test": np.zeros((3, 11), np.int64)},
        {"y_valid": np.zeros(5, np.float32)},
        {"x_test": np.full((3, 11), 10, np.uint8)},
        {"y_test": np.full(3, 255, np.uint8)},
        {"x_valid": np.zeros((0, 11), np.uint8), "y_valid": np.zeros(0, np.uint8)},
        {"x_train": np.full((7, 11), None)},
    ],
    ids=lambda changed: " ".join(
        f"{name} {getattr(array, 'shape', 'gone')} {getattr(array, 'dtype', '')}"
        for name, array in changed.items()
    ),
)
def test_arrays_that_are_not_digits_with_answers_are_refused(tmp_path, changed):
    path = tmp_path / "digits_10.npz"
    path.write_bytes(packed(**changed))
    message = refusal(path)
    assert "delete it and make it again" in message


def test_a_missing_file_is_refused_with_the_command_that_makes_it(tmp_path):
    message = refusal(tmp_path / "digits_10.npz")
    assert "make it with `python number_prediction/produce_data.py`" in message


@pytest.mark.parametrize("content", [b"", b"3 1 4 1 5\n", b"\x80\x04N."])
def test_another_kind_of_file_is_refused(tmp_path, content):
    path = tmp_path / "digits_10.npz"
    path.write_bytes(content)
    assert "damaged or not a file of produce_data.py" in refusal(path)


def test_a_single_array_and_a_folder_are_refused(tmp_path):
    with open(tmp_path / "digits_10.npz", "wb") as file:
        np.save(file, np.zeros((3, 11), np.uint8))
    (tmp_path / "digits_20.npz").mkdir()
    for path in tmp_path.iterdir():
        assert "damaged or not a file of produce_data.py" in refusal(path)


def test_digits_of_another_length_are_refused(tmp_path):
    path = made(tmp_path, 20)
    with pytest.raises(DataError, match="10\\+1 digits"):
        read(path, 10)


def test_numbers_beyond_those_there_are_to_be_are_refused(tmp_path):
    path = made(tmp_path, 30, n_numbers=25)
    assert read(path, 30, 25)["train"][1].max() == 24
    with pytest.raises(DataError, match=r"30\+1 numbers below 24 .* make it again"):
        read(path, 30, 24)


def test_the_order_of_an_array_in_memory_changes_no_digest(tmp_path):
    path = tmp_path / "digits_10.npz"
    good = arrays()
    np.savez(path, **good)
    expected = digests(read(path, 10))
    np.savez(path, **{name: np.asfortranarray(x) for name, x in good.items()})
    assert digests(read(path, 10)) == expected


def test_a_truncated_file_is_refused_wherever_it_ends(tmp_path):
    whole = packed()
    path = tmp_path / "digits_10.npz"
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        refusal(path)


def test_a_flipped_bit_is_refused_or_harmless_wherever_it_is(tmp_path):
    whole, right = packed(), arrays()
    path = tmp_path / "digits_10.npz"
    n_refused = 0
    for place in range(len(whole)):
        path.write_bytes(
            whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :]
        )
        try:
            splits = read(path, 10)
        except DataError:
            n_refused += 1
            continue
        for split in SPLITS:  # the bit was one of a date or the like
            for name, array in zip("xy", splits[split], strict=True):
                np.testing.assert_array_equal(array, right[f"{name}_{split}"])
    assert n_refused > len(whole) / 2


class Bait:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_a_pickle_in_a_file_is_never_executed(tmp_path):
    path, trap = tmp_path / "digits_10.npz", tmp_path / "executed"
    path.write_bytes(packed(y_train=np.array([Bait(trap)] * 7)))
    refusal(path)
    assert not trap.exists()
    # The bait is live: whoever allows pickles executes it.
    with np.load(path, allow_pickle=True) as file:
        file["y_train"]
    assert trap.exists()


# Model and loss


def test_the_default_model_has_the_weights_that_its_sizes_give():
    lstm = 10 * 800 + 200 * 800 + 800
    agent = (210 * 10 + 10) + (10 * 10 + 10)
    out = 200 * 10 + 10
    model = NumberPredictor()
    model.build()
    assert model.count_params() == lstm + agent + out == 173_030


def test_the_weights_start_as_in_the_release():
    """Its `supercell_new.py`, and `fc3` of its `rl_train.py` for the output layer."""
    keras.utils.set_random_seed(3)
    model = NumberPredictor(rnn_size=400)
    model.build()
    limit = math.sqrt(6 / (10 + 1600))  # Glorot's, TensorFlow 1's default
    kernel = model.dsc.cell.kernel.numpy()
    assert 0.99 * limit < np.abs(kernel).max() <= limit
    blocks = np.split(model.dsc.cell.recurrent_kernel.numpy(), 4, axis=1)
    for block in blocks:
        np.testing.assert_allclose(block.T @ block, np.eye(400), atol=1e-5)
    assert not np.any(model.dsc.cell.bias)
    kernel, bias = model.out.get_weights()
    np.testing.assert_array_equal(bias, np.float32(0.1))
    assert abs(kernel.mean()) < 4 * 0.3 / math.sqrt(kernel.size)
    assert abs(kernel.var() / 0.09 - 1) < 4 * math.sqrt(2 / kernel.size)


@pytest.mark.parametrize("n_numbers", [8, 10, 25])
def test_numbers_enter_as_one_hot_rows_of_the_kernel(n_numbers):
    model = NumberPredictor(UNITS, ACTIONS, n_numbers=n_numbers)
    model.build()
    kernel = np.zeros((n_numbers, 4 * UNITS), np.float32)
    kernel[-1] = 5.0  # opens every gate and proposes 1, for the last number alone
    model.dsc.cell.kernel.assign(kernel)
    model.dsc.cell.recurrent_kernel.assign(np.zeros((UNITS, 4 * UNITS)))
    outputs = model(np.array([[n_numbers - 1], [3]]))
    assert outputs.logits.shape == (2, n_numbers)
    hidden = outputs.hidden
    opened = 1 / (1 + math.exp(-5))
    expected = math.tanh(opened * math.tanh(5)) * opened
    np.testing.assert_allclose(hidden, [[expected] * UNITS, [0.0] * UNITS], rtol=1e-5)


def log_softmax(logits):
    logits = np.asarray(logits, np.float64)
    return logits - np.log(np.sum(np.exp(logits), axis=-1, keepdims=True))


def literal_outputs():
    """Two right answers, two wrong ones."""
    rng = np.random.default_rng(3)
    logits = rng.normal(size=(BATCH, 10))
    order = np.argsort(logits, axis=1)
    targets = np.where([True, False, False, True], order[:, -1], order[:, 4])
    actions = tf.constant(rng.integers(0, ACTIONS, (BATCH, TIME)), tf.int32)
    policy = tf.constant(rng.normal(size=(BATCH, TIME, ACTIONS)), tf.float32)
    return Outputs(
        tf.constant(logits, tf.float32), None, Skips(policy, actions)
    ), targets


def released_loss(log_answer, log_pi, rewards, entropy):
    nll = -np.mean(np.log(np.exp(log_answer) + 1e-7)) / 10
    policy = 0.0
    for row in range(BATCH):
        for t in range(1, TIME):
            log = math.log(math.exp(log_pi[row, t]) + 1)
            policy += -log * rewards[row] / (BATCH * (TIME - 1))
    return nll, policy, nll + policy


def corrected_loss(log_answer, log_pi, rewards, entropy):
    nll = -np.mean(log_answer)
    policy = 0.0
    for row in range(BATCH):
        advantage = rewards[row] - np.delete(rewards, row).mean()
        for t in range(1, TIME):
            policy += -0.7 * log_pi[row, t] * advantage / (BATCH * (TIME - 1))
    return nll, policy, nll + policy - 0.05 * entropy[:, 1:].mean()


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [(RELEASED, released_loss), (CORRECTED, corrected_loss)],
    ids=["released", "corrected"],
)
def test_loss_is_that_of_a_loop_in_numpy(recipe, expected):
    outputs, targets = literal_outputs()
    total, metrics = loss(outputs, targets, recipe)
    log_policy = log_softmax(outputs.skips.logits)
    log_pi = np.take_along_axis(
        log_policy, outputs.skips.actions.numpy()[..., None], axis=-1
    )[..., 0]
    entropy = -np.sum(np.exp(log_policy) * log_policy, axis=-1)
    log_answer = log_softmax(outputs.logits)[np.arange(BATCH), targets]
    rewards = np.array([1.0, -1.0, -1.0, 1.0])
    nll, policy, value = expected(log_answer, log_pi, rewards, entropy)
    assert float(metrics["nll"]) == pytest.approx(nll, rel=1e-5)
    assert float(metrics["rl_loss"]) == pytest.approx(policy, rel=1e-5)
    assert float(total) == pytest.approx(value, rel=1e-5)
    assert float(metrics["accuracy"]) == 0.5
    assert float(metrics["entropy"]) == pytest.approx(entropy[:, 1:].mean(), rel=1e-5)
    chosen = np.bincount(np.ravel(outputs.skips.actions[:, 1:]), minlength=ACTIONS)
    np.testing.assert_allclose(metrics["actions"], chosen / chosen.sum(), rtol=1e-6)


def test_rewards_give_the_answers_no_gradient():
    outputs, targets = literal_outputs()
    with tf.GradientTape() as tape:
        tape.watch(outputs.logits)
        total, _ = loss(outputs, targets, CORRECTED)
    softmax = np.exp(log_softmax(outputs.logits))
    expected = (softmax - np.eye(10)[targets]) / BATCH  # of the mean nll alone
    np.testing.assert_allclose(
        tape.gradient(total, outputs.logits), expected, rtol=1e-4, atol=1e-6
    )


def test_an_answer_is_right_where_it_is_the_likeliest():
    logits = np.zeros((3, 10), np.float32)
    logits[[0, 1, 2], [4, 9, 0]] = 1.0
    np.testing.assert_array_equal(is_right(logits, np.array([4, 8, 0])), [1, 0, 1])


# Task


def small_task(
    n_train=23,
    recipe=CORRECTED,
    seed=3,
    patience=2,
    batch_size=5,
    test=(),
    n_numbers=10,
):
    """A task whose row i starts with the digits of i and whose answers follow them."""
    numbers = np.arange(n_train, dtype=np.int32)
    x = np.zeros((n_train, 11), np.int32)
    x[:, 0], x[:, 1] = numbers // 10, numbers % 10
    splits = {"train": (x, (3 * numbers) % 10)}
    for split in ("valid", "test"):
        y = np.asarray(test, np.int32)
        splits[split] = (np.zeros((len(y), 11), np.int32), y)
    model = NumberPredictor(UNITS, ACTIONS, n_numbers=n_numbers)
    model.build()
    return NumberPrediction(
        model, keras.optimizers.Adam(), splits, recipe, batch_size, seed, patience
    )


def epoch_of(task, epoch):
    """The rows in the order in which an epoch presents them."""
    order = []
    for i in range(task.n_batches):
        x, y = task.batch(epoch, i)
        assert x.shape == (5, 11) and y.shape == (5,)
        rows = 10 * x[:, 0] + x[:, 1]
        np.testing.assert_array_equal(y, (3 * rows) % 10)  # answers stay with rows
        order += rows.tolist()
    return order


def test_an_epoch_is_a_shuffle_of_the_training_split_of_its_own():
    task = small_task(n_train=25)
    first, second = epoch_of(task, 0), epoch_of(task, 1)
    assert sorted(first) == sorted(second) == list(range(25))
    assert first != second and list(range(25)) not in (first, second)
    assert epoch_of(task, 0) == first  # whatever was asked for in between
    assert epoch_of(small_task(n_train=25), 1) == second
    assert epoch_of(small_task(n_train=25, seed=4), 1) != second


def test_rows_that_fill_no_batch_wait_for_another_epoch():
    task = small_task(n_train=23)
    assert task.n_batches == 4
    order = epoch_of(task, 0)
    assert len(set(order)) == 20


def test_accuracy_counts_every_row_of_a_split():
    # More than two thousand rows, of which the answer 7 is in all but the last 40.
    answers = np.full(2_130, 7)
    answers[-40:] = 2
    task = small_task(test=answers)
    task.model.out.kernel.assign(np.zeros((UNITS, 10)))
    task.model.out.bias.assign(np.eye(10)[7])
    for actions in ("greedy", "sample"):
        assert task.accuracy("test", actions) == pytest.approx(2090 / 2130, abs=1e-12)


@pytest.mark.parametrize("n_numbers", [8, 10, 26])
def test_the_last_choices_are_those_of_the_step_that_reads_the_index(n_numbers):
    indices = np.array([4, 4, n_numbers - 1, 0, 4])
    task = small_task(test=np.zeros(len(indices)), n_numbers=n_numbers)
    x, _ = task.data["valid"]
    x[:, -1] = indices
    # The agent takes the newest state at an even number, the oldest at an odd one.
    hidden, logits = task.model.dsc.cell.agent_hidden, task.model.dsc.cell.agent_logits
    parity = np.zeros(hidden.kernel.shape)
    parity[:n_numbers, 0] = [1.0, -1.0] * (n_numbers // 2)
    hidden.kernel.assign(parity)
    hidden.bias.assign(np.zeros(hidden.bias.shape))
    newest_if_even = np.zeros(logits.kernel.shape)
    newest_if_even[0] = [-5.0, 0.0, 5.0]
    logits.kernel.assign(newest_if_even)
    scores, _ = task.evaluate()
    expected = np.zeros((n_numbers, ACTIONS), int)
    expected[4, 2], expected[-1, 0], expected[0, 2] = 3, 1, 1
    assert scores[LAST_ACTIONS] == expected.tolist()


@pytest.mark.parametrize("n_numbers", [7, 10, 25, 101])
def test_confusion_stands_with_the_right_answers_in_its_rows(n_numbers):
    last = n_numbers - 1
    table = counts([3, 3, last, 3], [5] * 4, (n_numbers, n_numbers))
    header, *rows = describe_confusion(table).split("\n")
    assert header.split() == ["answer", "predicted", *map(str, range(n_numbers))]
    expected = np.zeros((n_numbers, n_numbers), int)
    expected[3, 5], expected[last, 5] = 3, 1
    for number, (row, numbers) in enumerate(zip(rows, expected, strict=True)):
        assert row.split() == [str(number), *map(str, numbers)]
    assert {len(line) for line in (header, *rows)} == {len(header)}


def test_places_are_percentages_of_an_index_digit():
    table = np.array([[9, 0, 0], [1, 0, 3], [0, 0, 0]])
    header, *rows = describe_places(table).split("\n")
    assert header.split() == ["index", "steps", "back", "3", "2", "1"]
    assert [row.split() for row in rows] == [
        ["0", "100", ".", "."],
        ["1", "25", ".", "75"],
        ["2", ".", ".", "."],
    ]
    assert {len(line) for line in (header, *rows)} == {len(header)}


def test_training_ends_after_two_epochs_without_a_mistake():
    task = small_task(patience=9)
    assert task.end_epoch((1.0, 0.3)) is None
    assert task.end_epoch((0.9, 0.9)) is None  # starts the count anew
    assert task.end_epoch((1.0, 0.4)) is None
    assert "2 epochs without a mistake" in task.end_epoch((1.0, 0.5))


def test_training_ends_when_accuracy_has_not_risen_for_the_epochs_of_patience():
    task = small_task(patience=2)
    assert task.end_epoch((0.5, 0.2)) is None
    assert task.end_epoch((0.4, 0.9)) is None
    assert task.end_epoch((0.5, 0.3)) is None  # a tie, but sampled better: a new best
    assert task.end_epoch((0.5, 0.3)) is None
    assert "no better validation accuracy for 2" in task.end_epoch((0.5, 0.1))

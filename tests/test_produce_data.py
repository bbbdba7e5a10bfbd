"""The data file of number prediction: content, and refused files."""

import math

import numpy as np
import pytest

from dsc.cli.errors import RunError
from number_prediction.produce_data import (
    SPLITS,
    digests,
    draw_epoch,
    file_name,
    generate,
    read,
    write,
)

SIZES = {"train": 4000, "valid": 300, "test": 200}


def made(
    folder, sequence_length=10, sizes=SIZES, seed=5, released_data=False, n_numbers=10
):
    path = folder / file_name(sequence_length, released_data, n_numbers)
    write(path, sequence_length, sizes, seed, released_data, n_numbers)
    return path


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return read(made(tmp_path_factory.mktemp("digits")), 10)


@pytest.mark.parametrize(
    ("sequence_length", "n_numbers"),
    [(10, 10), (20, 10), (100, 10), (2, 2), (7, 7), (25, 25), (31, 25), (256, 256)],
)
def test_the_index_selects_the_answer_from_the_last_numbers(
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


def test_a_selected_number_is_the_next_hops_index():
    check_hops(*generate(200, 20, np.random.default_rng(0), n_numbers=5, hops=3))


def check_hops(x, y):
    """The answers are those of three hops among five numbers."""
    for row, answer in zip(x.tolist(), y, strict=True):
        numbers, index = row[:-1], row[-1]
        for _ in range(3):
            numbers, index = numbers[: len(numbers) - 5 + index], numbers[index - 5]
        assert answer == index


def test_each_epoch_of_fresh_data_is_its_own(tmp_path):
    def epoch(epoch, seed=5):
        return draw_epoch(epoch, seed, 60, sequence_length=20, n_numbers=5, hops=3)

    write(tmp_path / "a.npz", 20, dict.fromkeys(SPLITS, 60), 5, False, 5, 3)
    splits = read(tmp_path / "a.npz", 20, 5).values()
    drawn = [*splits, *(epoch(i) for i in range(3)), epoch(0, seed=6)]
    assert len({x.tobytes() for x, _ in drawn}) == 7
    for x, y in drawn:
        check_hops(x, y)
        assert x.dtype == y.dtype == np.int32
    np.testing.assert_array_equal(epoch(2)[0], drawn[5][0])


def test_released_fresh_data_are_truncated_rows():
    x, y = draw_epoch(3, 5, 60, sequence_length=20, released_data=True)
    whole, _ = draw_epoch(3, 5, 60, sequence_length=100)
    np.testing.assert_array_equal(np.column_stack([x, y]), whole[:, :22])


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


def test_the_digits_of_a_seed_do_not_change(digits):
    assert digests(digits) == {
        "train": "0e54fb6c963b2b43",
        "valid": "7e587938312d7f00",
        "test": "717cc6b75c9af371",
    }


def test_no_sequence_of_one_split_is_in_another(digits):
    rows = {split: {row.tobytes() for row in x} for split, (x, _) in digits.items()}
    assert len(rows["train"]) == SIZES["train"]  # of 10^11 possible ones
    assert len(set.union(*rows.values())) == sum(SIZES.values())


def test_the_seed_determines_the_bytes(tmp_path):
    seeds = {"a": 5, "b": 5, "c": 6}
    paths = [made(tmp_path / name, seed=seed) for name, seed in seeds.items()]
    first, again, other = (path.read_bytes() for path in paths)
    assert first == again != other


@pytest.mark.parametrize("sequence_length", [10, 20])
def test_released_data_are_truncated_rows_with_a_random_answer(
    tmp_path, sequence_length
):
    path = made(tmp_path, sequence_length, released_data=True)
    x, y = read(path, sequence_length)["train"]
    whole, _ = read(made(tmp_path, 100), 100)["train"]  # the same draws, uncut
    np.testing.assert_array_equal(x, whole[:, : sequence_length + 1])
    np.testing.assert_array_equal(y, whole[:, sequence_length + 1])
    # Only by chance a tenth of the answers are right.
    right = x[np.arange(len(y)), sequence_length - 10 + x[:, -1]] == y
    assert abs(right.mean() - 0.1) < 4 * math.sqrt(0.09 / len(y))


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunError, match=r"--data_dir: cannot write to .*digits_10.npz"):
        made(tmp_path / "file")


# What is refused


ARRAYS = {}
for n, split in enumerate(SPLITS, 3):
    x, y = generate(n, 10, np.random.default_rng(n))
    ARRAYS |= {f"x_{split}": x, f"y_{split}": y}


@pytest.fixture
def path(tmp_path):
    np.savez_compressed(tmp_path / "digits_10.npz", **ARRAYS)
    return tmp_path / "digits_10.npz"


def check_refused(path):
    with pytest.raises(RunError, match=rf"^{path}.* write it again"):
        read(path, 10)


@pytest.mark.parametrize(
    "changed",
    [
        {"x_valid": None},
        {"x_train": np.zeros(3, np.uint8)},
        {"x_train": np.zeros((3, 11, 1), np.uint8)},
        {"y_train": np.zeros(2, np.uint8)},
        {"y_train": np.zeros((3, 1), np.uint8)},
        {"x_test": np.zeros((5, 11), np.int64)},
        {"y_valid": np.zeros(4, np.float32)},
        {"x_test": np.full((5, 11), 10, np.uint8)},
        {"y_test": np.full(5, 255, np.uint8)},
        {"x_valid": np.zeros((0, 11), np.uint8), "y_valid": np.zeros(0, np.uint8)},
        {"x_train": np.full((3, 11), None)},  # a pickle
    ],
    ids=lambda changed: "-".join(changed),
)
def test_arrays_that_are_not_digits_with_answers_are_refused(path, changed):
    arrays = {k: v for k, v in (ARRAYS | changed).items() if v is not None}
    np.savez_compressed(path, **arrays)
    check_refused(path)


def test_a_missing_file_is_refused_with_the_command_that_writes_it(tmp_path):
    with pytest.raises(RunError, match=r"write it with `python .*/produce_data\.py`"):
        read(tmp_path / "digits_10.npz", 10)


def test_sequences_of_other_sizes_are_refused(tmp_path):
    path = made(tmp_path, 30, n_numbers=25)
    assert read(path, 30, 25)["train"][1].max() == 24
    for length, n_numbers in (30, 24), (29, 25):
        said = rf"{length}\+1 numbers below {n_numbers} .* write it again"
        with pytest.raises(RunError, match=said):
            read(path, length, n_numbers)


def test_a_truncated_file_is_refused(path):
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        check_refused(path)


def test_a_flipped_bit_is_refused_or_harmless(path):
    whole, n_refused = path.read_bytes(), 0
    for i in range(0, len(whole), 3):
        path.write_bytes(whole[:i] + bytes([whole[i] ^ 1 << i % 8]) + whole[i + 1 :])
        try:
            splits = read(path, 10)
        except RunError:
            n_refused += 1
            continue
        for split in SPLITS:  # such as a bit of a date
            for name, array in zip("xy", splits[split], strict=True):
                np.testing.assert_array_equal(array, ARRAYS[f"{name}_{split}"])
    assert n_refused > len(whole) / 6

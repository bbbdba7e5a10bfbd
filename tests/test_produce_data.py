"""The data of number prediction: what is written, and which files are refused."""

import io
import math

import numpy as np
import pytest

from dsc.cli.errors import RunError
from number_prediction.produce_data import (
    SPLITS,
    DataError,
    digests,
    file_name,
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


def test_the_digits_of_a_seed_stay_what_they_are(digits):
    # Other digits would give other results.
    assert digests(digits) == {
        "train": "0e54fb6c963b2b43",
        "valid": "7e587938312d7f00",
        "test": "717cc6b75c9af371",
    }


def test_no_sequence_of_one_split_is_in_another(digits):
    rows = {split: {row.tobytes() for row in x} for split, (x, _) in digits.items()}
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


def test_a_file_that_cannot_be_written_is_named_and_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunError, match=r"--data_dir: cannot write to .*digits_10.npz"):
        made(tmp_path / "file")


# What is refused


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
        {"x_train": np.full((7, 11), None)},  # a pickle
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
    for place in range(0, len(whole), 3):
        path.write_bytes(
            whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :]
        )
        try:
            splits = read(path, 10)
        except DataError:
            n_refused += 1
            continue
        for split in SPLITS:  # such as a bit of a date
            for name, array in zip("xy", splits[split], strict=True):
                np.testing.assert_array_equal(array, right[f"{name}_{split}"])
    assert n_refused > len(whole) / 6

"""Writes the data of number prediction: which of the last ten digits was it?

    python number_prediction/produce_data.py --sequence_length 10

A sequence is `sequence_length` random digits a and then one digit b, the index; the
answer is the digit at place b of the last ten: a[sequence_length - 10 + b] (paper,
section 4.1; release: `number_prediction/produce_data.py`).
"""

import sys
from pathlib import Path

import numpy as np
from absl import app, flags

from dsc import files

ROOT = Path(__file__).resolve().parents[1]
SPLITS = ("train", "valid", "test")
MAX_LENGTH, MAX_SEQUENCES = 10_000, 10_000_000
RELEASED_LENGTH = 100  # digits before the index in what the release calls its 10+1 file


class DataError(ValueError):
    """The data cannot be made or used; the message says why and what to do."""


def file_name(sequence_length, released_data=False):
    """The file's name, which tells what is in it."""
    return f"digits_{sequence_length}{'_released' if released_data else ''}.npz"


def generate(n, sequence_length, rng):
    """Draws sequences and their answers.

    Args:
        n: number of sequences.
        sequence_length: digits before the index, 10 or more.
        rng: `numpy.random.Generator`.

    Returns:
        `(x [n, sequence_length + 1], y [n])`, uint8 digits.
    """
    x = rng.integers(0, 10, (n, sequence_length + 1), dtype=np.uint8)
    index = x[:, -1].astype(int)
    return x, x[np.arange(n), sequence_length - 10 + index]


def as_released(x, y, sequence_length):
    """What the release's trainer reads of such rows: the first sequence_length + 2.

    Its `produce_data.py` writes 100 digits, the index and the answer into the file
    that the trainer takes for rows of 10. So the "answer" is just another random digit.
    """
    rows = np.concatenate([x, y[:, None]], axis=1)
    return rows[:, : sequence_length + 1], rows[:, sequence_length + 1]


def write(path, sequence_length, sizes, seed, released_data=False):
    """Writes a data file, whole or not at all.

    The arrays are `x_<split>` `[n, sequence_length + 1]` and `y_<split>` `[n]`, uint8.

    Args:
        path: file to write.
        sequence_length: digits before the index, 10 or more.
        sizes: dict from split to number of sequences.
        seed: each split has a stream of its own.
        released_data: see `as_released`.

    Raises:
        DataError: the file cannot be written.
    """
    arrays = {}
    for i, split in enumerate(SPLITS):
        rng = np.random.Generator(np.random.PCG64([seed, i]))
        drawn = RELEASED_LENGTH if released_data else sequence_length
        x, y = generate(sizes[split], drawn, rng)
        if released_data:
            x, y = as_released(x, y, sequence_length)
        arrays[f"x_{split}"], arrays[f"y_{split}"] = x, y
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write(path, lambda aside: np.savez_compressed(aside, **arrays))
    except OSError as error:
        raise DataError(
            f"--data_dir: cannot write {path}: {error.strerror}; free space or give "
            "another folder."
        ) from None


def read(path, sequence_length):
    """Reads a data file.

    Args:
        path: file, of `write`.
        sequence_length: digits before the index that its sequences must have.

    Returns:
        Dict from split to `(x int32 [n, time], y int32 [n])`.

    Raises:
        DataError: the file is missing, damaged or holds something else.
    """
    try:
        arrays = files.read_arrays(path)
        data = {s: (arrays[f"x_{s}"], arrays[f"y_{s}"]) for s in SPLITS}
    except FileNotFoundError:
        raise DataError(
            f"There is no {path}; make it with `python "
            "number_prediction/produce_data.py` and the same --sequence_length, "
            "--data_dir and --recipe."
        ) from None
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"{path} is damaged or not a file of produce_data.py ({error}); delete it "
            "and make it again."
        ) from None
    for split, (x, y) in data.items():
        digits = all(a.dtype == np.uint8 and a.size and a.max() <= 9 for a in (x, y))
        shapes = (len(x), sequence_length + 1), (len(x),)
        if not digits or (x.shape, y.shape) != shapes:
            raise DataError(
                f"{path}: its {split} split is not rows of {sequence_length}+1 digits "
                "with one answer each; delete it and make it again with "
                "produce_data.py."
            )
    return {s: (x.astype(np.int32), y.astype(np.int32)) for s, (x, y) in data.items()}


def digests(data):
    """Dict from split to the digest of what `read` returned for it."""
    return {split: files.digest(x, y) for split, (x, y) in data.items()}


def main(argv):
    if argv[1:]:
        sys.exit(f"{argv[1]!r} is not a flag; --help lists those there are.")
    values = flags.FLAGS
    released = values.recipe == "released"
    path = Path(values.data_dir) / file_name(values.sequence_length, released)
    sizes = {"train": values.n_train, "valid": values.n_valid, "test": values.n_test}
    try:
        write(path, values.sequence_length, sizes, values.seed, released)
    except DataError as error:
        sys.exit(str(error))
    except MemoryError:
        sys.exit("There is not enough memory for so many digits; make fewer.")
    except KeyboardInterrupt:
        sys.exit(130)
    counts = ", ".join(f"{n:,} {split}" for split, n in sizes.items())
    print(f"{path}: {counts} sequences of {values.sequence_length}+1 digits.")


if __name__ == "__main__":
    flags.DEFINE_string("data_dir", str(ROOT / "data"), "folder for the file")
    flags.DEFINE_integer(
        "sequence_length", 10, "digits before the index", 10, MAX_LENGTH
    )
    flags.DEFINE_integer("n_train", 100_000, "sequences to train on", 1, MAX_SEQUENCES)
    flags.DEFINE_integer("n_valid", 10_000, "sequences to choose on", 1, MAX_SEQUENCES)
    flags.DEFINE_integer("n_test", 100_000, "sequences to test on", 1, MAX_SEQUENCES)
    flags.DEFINE_integer("seed", 3435, "of the digits", 0)
    flags.DEFINE_enum(
        "recipe",
        "corrected",
        ("corrected", "released"),
        "released: the file as the release makes it, whose answers are noise",
    )
    app.run(main)

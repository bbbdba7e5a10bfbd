"""Writes the data of number prediction.

    python number_prediction/produce_data.py --sequence_length 10

A sequence consists of `sequence_length` random numbers a below `n_numbers` and one more
such number b, the index. The answer is number b of the last `n_numbers`:
a[sequence_length - n_numbers + b]. With ten numbers (digits) this is the task of the
paper, "Number Prediction with Skips", and of the release's `produce_data.py`. With
`--hops 2` that number is itself an index into the `n_numbers` before it, and the answer
is the number which it selects there; and so on.
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this clone's code

import numpy as np

from dsc.cli import program
from dsc.cli.errors import RunError, writing
from dsc.cli.flags import Group
from dsc.runs import atomic_io

ROOT = Path(__file__).resolve().parents[1]
SPLITS = ("train", "valid", "test")
DIGITS = 10  # numbers in the release's task, and by default
MAX_NUMBERS = 256  # values of a byte
MAX_LENGTH, MAX_SEQUENCES = 10_000, 10_000_000
RELEASED_LENGTH = 100  # digits before the index in the release's file for 10+1


def define_sequences(group):
    """Flags that define a sequence; give both scripts the same values."""
    group.integer(
        "n_numbers", DIGITS, "number of values, and of indices", 2, MAX_NUMBERS
    )
    group.integer("sequence_length", 10, "numbers before the index", 2, MAX_LENGTH)
    group.integer(
        "hops",
        1,
        "how often an index selects: with 2, the number that the index selects is an "
        "index into the numbers before it",
        1,
        MAX_LENGTH,
    )
    group.refuse_unless(
        ("n_numbers", "sequence_length", "hops"),
        lambda given: given["sequence_length"] >= given["n_numbers"] * given["hops"],
        "an index may ask for any of the --n_numbers numbers before it: give a "
        "--sequence_length of at least --n_numbers times --hops",
    )


def refuse_released(group, *names):
    """Refuses flags that ask for the release's data with other numbers than digits.

    Args:
        group: `dsc.cli.flags.Group`.
        names: flags that ask for them if true or `released`.
    """
    group.refuse_unless(
        ("n_numbers", "hops", *names),
        lambda given: (
            (given["n_numbers"], given["hops"]) == (DIGITS, 1)
            or not any(given[name] in (True, "released") for name in names)
        ),
        f"the release supports only {DIGITS} numbers and one hop: drop --n_numbers and "
        "--hops, or the other",
    )


def numbers(n_numbers):
    """What to call the numbers."""
    return "digits" if n_numbers == DIGITS else f"numbers below {n_numbers}"


def file_name(sequence_length, released_data=False, n_numbers=DIGITS, hops=1):
    """The name of a data file."""
    kind = numbers(n_numbers).replace(" ", "_")
    end = "_released" if released_data else "" if hops == 1 else f"_{hops}_hops"
    return f"{kind}_{sequence_length}{end}.npz"


def generate(n, sequence_length, rng, n_numbers=DIGITS, hops=1):
    """Draws sequences and their answers.

    Args:
        n: number of sequences.
        sequence_length: numbers before the index, `n_numbers * hops` or more.
        rng: `numpy.random.Generator`.
        n_numbers: numbers are below this; at most `MAX_NUMBERS`.
        hops: how often an index selects.

    Returns:
        `(x [n, sequence_length + 1], y [n])`, uint8.
    """
    x = rng.integers(0, n_numbers, (n, sequence_length + 1), dtype=np.uint8)
    place, answer = np.full(n, sequence_length), x[:, -1]  # the index
    for _ in range(hops):
        place = place - n_numbers + answer
        answer = x[np.arange(n), place]
    return x, answer


def as_released(x, y, sequence_length):
    """What the release's trainer reads of rows of 100 digits, index and answer.

    It takes the first sequence_length + 2 columns, so for less than 100 the "answer" is
    just another random digit.
    """
    rows = np.concatenate([x, y[:, None]], axis=1)
    return rows[:, : sequence_length + 1], rows[:, sequence_length + 1]


def draw(seed, n, sequence_length, released_data=False, n_numbers=DIGITS, hops=1):
    """Draws the sequences and answers of a random stream.

    Args:
        seed: list of whole numbers. `write` takes `[seed, i]` for split i.
        n, sequence_length, n_numbers, hops: see `generate`.
        released_data: see `as_released`.

    Returns:
        `(x [n, sequence_length + 1], y [n])`, uint8.
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    if not released_data:
        return generate(n, sequence_length, rng, n_numbers, hops)
    return as_released(*generate(n, RELEASED_LENGTH, rng), sequence_length)


def draw_epoch(epoch, seed, n, **sequences):
    """Draws the training sequences of one epoch of `--fresh_data`.

    Args:
        epoch: counted from 0.
        seed: the run's.
        n, **sequences: see `draw`.

    Returns:
        `(x int32 [n, sequence_length + 1], y int32 [n])`, a function of the arguments.
    """
    # The third number keeps the stream apart from those of the file's splits.
    x, y = draw([seed, epoch, 1], n, **sequences)
    return x.astype(np.int32), y.astype(np.int32)


def write(
    path,
    sequence_length,
    sizes,
    seed,
    released_data=False,
    n_numbers=DIGITS,
    hops=1,
):
    """Writes a data file atomically.

    The arrays are `x_<split>` `[n, sequence_length + 1]` and `y_<split>` `[n]`, uint8.

    Args:
        path: file to write.
        sequence_length, n_numbers, hops: see `generate`.
        sizes: dict from split to number of sequences.
        seed: each split has its own random stream.
        released_data: see `as_released`; only for ten numbers.

    Raises:
        RunError: the release has no such data, or the file cannot be written.
    """
    if released_data and sequence_length > RELEASED_LENGTH:
        raise RunError(
            f"--recipe released has only {RELEASED_LENGTH} digits before the index; "
            "leave it out, or give a --sequence_length of at most as many."
        )
    arrays = {}
    for i, split in enumerate(SPLITS):
        x, y = draw(
            [seed, i], sizes[split], sequence_length, released_data, n_numbers, hops
        )
        arrays[f"x_{split}"], arrays[f"y_{split}"] = x, y
    with writing(path, "--data_dir"):
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_io.write(path, lambda aside: np.savez_compressed(aside, **arrays))


def read(path, sequence_length, n_numbers=DIGITS):
    """Reads a file of `write`.

    Args:
        path: the file.
        sequence_length, n_numbers: what it must have been written with.

    Returns:
        Dict from split to `(x int32 [n, time], y int32 [n])`.

    Raises:
        RunError: the file is missing, damaged or holds other data.
    """
    if not os.path.exists(path):
        raise RunError(
            f"There is no {path}; write it with `python "
            "number_prediction/produce_data.py` and the same --n_numbers, "
            "--sequence_length, --hops, --data_dir and --recipe."
        )
    try:
        arrays = atomic_io.read_arrays(path)
        data = {s: (arrays[f"x_{s}"], arrays[f"y_{s}"]) for s in SPLITS}
    except (OSError, ValueError, KeyError) as error:
        raise RunError(
            f"{path} is damaged or not a file of produce_data.py ({error}); delete it "
            "and write it again."
        ) from None
    for split, (x, y) in data.items():
        fit = all(
            a.dtype == np.uint8 and a.size and a.max() < n_numbers for a in (x, y)
        )
        shapes = (len(x), sequence_length + 1), (len(x),)
        if not fit or (x.shape, y.shape) != shapes:
            raise RunError(
                f"{path}: the {split} split does not consist of {sequence_length}+1 "
                f"{numbers(n_numbers)} with one answer each; delete it and write "
                "it again with produce_data.py."
            )
    return {s: (x.astype(np.int32), y.astype(np.int32)) for s, (x, y) in data.items()}


def digests(data):
    """Dict from split to the digest of its arrays."""
    return {split: atomic_io.digest(x, y) for split, (x, y) in data.items()}


def main(values):
    """Writes the file of the flags."""
    length, n_numbers = values.sequence_length, values.n_numbers
    released = values.recipe == "released"
    name = file_name(length, released, n_numbers, values.hops)
    path = Path(values.data_dir) / name
    sizes = {"train": values.n_train, "valid": values.n_valid, "test": values.n_test}
    try:
        write(path, length, sizes, values.seed, released, n_numbers, values.hops)
    except MemoryError:
        raise RunError(
            "There is not enough memory for so many sequences; ask for fewer."
        ) from None
    counts = ", ".join(f"{n:,} {split}" for split, n in sizes.items())
    print(f"{path}: {counts} sequences of {length}+1 {numbers(n_numbers)}.")


if __name__ == "__main__":
    group = Group("flags")
    FLAGS = group.defined
    group.path("data_dir", str(ROOT / "data"), "folder for the file")
    define_sequences(group)
    group.integer("n_train", 100_000, "training sequences", 1, MAX_SEQUENCES)
    group.integer("n_valid", 10_000, "validation sequences", 1, MAX_SEQUENCES)
    group.integer("n_test", 100_000, "test sequences", 1, MAX_SEQUENCES)
    group.integer("seed", 3435, "random seed", 0)
    group.enum(
        "recipe",
        "corrected",
        ("corrected", "released", "paper"),
        "that of training. released: the release's data, noise for less than "
        f"{RELEASED_LENGTH} digits",
    )
    refuse_released(group, "recipe")
    program.parse(FLAGS, __doc__)
    program.main(FLAGS, lambda: main(FLAGS))

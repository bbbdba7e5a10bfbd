"""Text to word ids and back, and the windows that truncated back-propagation sees.

The same vocabulary, ids and windows as the release's reader (release:
`language_modeling/reader.py`): one word is what stands between blanks, the end of a
line is a word of its own, and the vocabulary is that of the training file.
"""

import collections
import dataclasses
from pathlib import Path
from typing import NamedTuple

import numpy as np

SPLITS = ("train", "valid", "test")


class DataError(ValueError):
    """The data cannot be used; the message says what is wrong and what to do."""


class Corpus(NamedTuple):
    """A text in three splits.

    Attributes:
        vocabulary: tuple of words; a word's id is its place. By falling count in the
            training file, ties in alphabetical order.
        ids: dict from split to int32 `[words]`.
        n_unknown: dict from split to the number of words that were dropped because the
            training file does not have them (the release drops them silently).
    """

    vocabulary: tuple
    ids: dict
    n_unknown: dict


def find(data_dir):
    """The three files of a corpus.

    Args:
        data_dir: folder with `{train,valid,test}.txt` or `ptb.{train,valid,test}.txt`.

    Returns:
        Dict from split to path.

    Raises:
        DataError: the folder or one of the files is missing.
    """
    folder = Path(data_dir)
    if not folder.is_dir():
        raise DataError(
            f"--data_dir: there is no folder {folder}; give a folder with train.txt, "
            "valid.txt and test.txt, or fetch the Penn Treebank with "
            "`python scripts/get_ptb.py`."
        )
    for pattern in ("ptb.{}.txt", "{}.txt"):
        paths = {split: folder / pattern.format(split) for split in SPLITS}
        found = [path for path in paths.values() if path.is_file()]
        if len(found) == len(SPLITS):
            return paths
        if found:
            missing = [p.name for p in paths.values() if p not in found]
            raise DataError(
                f"--data_dir: {folder} has {found[0].name} but not "
                f"{' and '.join(missing)}; all three splits are needed."
            )
    raise DataError(
        f"--data_dir: {folder} has neither ptb.train.txt nor train.txt; give a folder "
        "with the splits train, valid and test."
    )


def read(paths, eos="<eos>"):
    """Reads a corpus.

    Args:
        paths: dict from split to path, from `find`.
        eos: the word that stands for the end of a line.

    Returns:
        `Corpus`.

    Raises:
        DataError: a file cannot be read, is not UTF-8 or has no words.
    """
    if len(eos.split()) != 1:
        raise DataError(f"--EOS must be one word without blanks, not {eos!r}.")
    words = {split: _words(path, eos) for split, path in paths.items()}
    counts = collections.Counter(words["train"])
    vocabulary = sorted(counts, key=lambda word: (-counts[word], word))
    index = {word: i for i, word in enumerate(vocabulary)}
    ids, n_unknown = {}, {}
    for split in words:
        known = [index[word] for word in words[split] if word in index]
        ids[split] = np.array(known, np.int32)
        n_unknown[split] = len(words[split]) - len(known)
    return Corpus(tuple(vocabulary), ids, n_unknown)


def _words(path, eos):
    try:
        text = Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not UTF-8 text (byte {error.start}); convert it, for instance "
            "with `iconv -t utf-8`."
        ) from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from None
    words = text.replace("\n", f" {eos} ").split()
    if not words:
        raise DataError(f"{path} has no words in it; put text there, line by line.")
    return words


@dataclasses.dataclass(frozen=True)
class Windows:
    """A text cut for truncated back-propagation, in the release's order.

    The text is cut into `batch` rows that follow one another; window i holds the
    steps i * n_steps .. (i + 1) * n_steps of every row, so a row's windows follow one
    another too, and carry their state. What the last whole window does not cover is
    left out, as in the release.

    Attributes:
        rows: int32 `[batch, words per row]`.
        n_steps: steps per window.
    """

    rows: np.ndarray
    n_steps: int

    def __len__(self):
        return (self.rows.shape[1] - 1) // self.n_steps

    def __getitem__(self, i):
        """`(words, next words)`, each int32 `[batch, n_steps]`."""
        if not 0 <= i < len(self):
            raise IndexError(f"window {i} of {len(self)}")
        start = i * self.n_steps
        stop = start + self.n_steps
        return self.rows[:, start:stop], self.rows[:, start + 1 : stop + 1]


def windows(ids, batch_size, n_steps, split):
    """Cuts a text.

    Args:
        ids: int32 `[words]`.
        batch_size: number of rows.
        n_steps: steps per window.
        split: the text's name, for the error message.

    Returns:
        `Windows` with at least one window.

    Raises:
        DataError: the text is too short for one window.
    """
    words_per_row = len(ids) // batch_size
    if words_per_row <= n_steps:
        raise DataError(
            f"The {split} split has {len(ids)} words, fewer than the "
            f"{batch_size * (n_steps + 1)} that one window needs; lower --batch_size "
            f"({batch_size}) or --num_unroll_steps ({n_steps}), or use more text."
        )
    rows = ids[: batch_size * words_per_row].reshape(batch_size, words_per_row)
    return Windows(rows, n_steps)

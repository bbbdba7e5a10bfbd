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

from dsc import files

SPLITS = ("train", "valid", "test")
UNKNOWN = ("drop", "unk", "error")
UNK = "<unk>"


class DataError(ValueError):
    """The data cannot be used; the message says what is wrong and what to do."""


class Corpus(NamedTuple):
    """A text in three splits.

    Attributes:
        vocabulary: tuple of words; a word's id is its place. By falling count in the
            training file, ties in alphabetical order.
        ids: dict from split to int32 `[words]`.
        n_unknown: dict from split to the number of words that the training file does
            not have (the release drops them silently).
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


def read(paths, eos="<eos>", unknown="drop"):
    """Reads a corpus.

    Lines may end in LF, CRLF or CR, and a byte order mark at the beginning is no part
    of the text. A blank line is a line: it has the word for its end.

    Args:
        paths: dict from split to path, from `find`.
        eos: the word that stands for the end of a line.
        unknown: what becomes of words that the training file does not have: `drop`,
            as in the release; `unk`, they are read as `<unk>`; `error`.

    Returns:
        `Corpus`.

    Raises:
        DataError: a file cannot be read, is no text in UTF-8 or has no words; there
            are unknown words where none may be, or there is no `<unk>` for them.
    """
    if len(eos.split()) != 1 or not eos.isprintable():
        raise DataError(f"--EOS must be one word without blanks, not {eos!r}.")
    words = {split: _words(path, eos) for split, path in paths.items()}
    counts = collections.Counter(words["train"])
    vocabulary = sorted(counts, key=lambda word: (-counts[word], word))
    index = {word: i for i, word in enumerate(vocabulary)}
    if unknown == "unk" and UNK not in index:
        raise DataError(
            f"--unknown unk: {paths['train']} has no word {UNK}; give --unknown drop."
        )
    stand_in = index[UNK] if unknown == "unk" else None
    ids, n_unknown = {}, {}
    for split in words:
        found = [index.get(word, stand_in) for word in words[split]]
        n_unknown[split] = sum(word not in index for word in words[split])
        if unknown == "error" and n_unknown[split]:
            first = next(word for word in words[split] if word not in index)
            raise DataError(
                f"--unknown error: {paths[split]} has {n_unknown[split]} words that "
                f"the training file does not have, {first!r} first; put them into the "
                "training file, or give --unknown drop or unk."
            )
        ids[split] = np.array([i for i in found if i is not None], np.int32)
    return Corpus(tuple(vocabulary), ids, n_unknown)


def digests(corpus):
    """Dict from split to the digest of its words and their ids."""
    vocabulary = "\n".join(corpus.vocabulary).encode()
    return {split: files.digest(vocabulary, i) for split, i in corpus.ids.items()}


def _words(path, eos):
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not UTF-8 text (byte {error.start}); convert it, for instance "
            "with `iconv -t utf-8`."
        ) from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from None
    if (place := text.find("\0")) >= 0:
        line = text.count("\n", 0, place) + 1
        raise DataError(
            f"{path} has a NUL byte in line {line}, so it is no text or is damaged; "
            "put a whole copy there."
        )
    words = text.replace("\n", f" {eos} ").split()
    if not words:
        raise DataError(f"{path} has no words in it; put text there, line by line.")
    return words


@dataclasses.dataclass(frozen=True)
class Windows:
    """A text cut for truncated back-propagation.

    The text stands in `batch` rows; window i holds the steps i * n_steps ..
    (i + 1) * n_steps of every row, so a row's windows follow one another too, and carry
    their state.

    Attributes:
        words: int32 `[batch, steps]`, what is read.
        targets: int32 `[batch, steps]`, the word after each.
        scored: bool `[batch, steps]`, whether the target is one of the text.
        n_steps: steps per window.
        n_uncovered: how many of the text's words are no target, the first ones of the
            rows among them.
    """

    words: np.ndarray
    targets: np.ndarray
    scored: np.ndarray
    n_steps: int
    n_uncovered: int

    def __len__(self):
        return self.words.shape[1] // self.n_steps

    def __getitem__(self, i):
        """`(words, targets, scored)` of a window, each `[batch, n_steps]`."""
        steps = self._steps(i)
        return self.words[:, steps], self.targets[:, steps], self.scored[:, steps]

    def _steps(self, i):
        if not 0 <= i < len(self):
            raise IndexError(f"window {i} of {len(self)}")
        return slice(i * self.n_steps, (i + 1) * self.n_steps)


def windows(ids, batch_size, n_steps, split):
    """Cuts a text as the release does.

    Rows of len(ids) // batch_size words follow one another. What the last whole window
    of a row does not cover is left out.

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
        tail = "" if split == "train" else ", give --score_tail"
        raise DataError(
            f"The {split} split has {len(ids)} words, fewer than the "
            f"{batch_size * (n_steps + 1)} that one window needs; lower --batch_size "
            f"({batch_size}) or --num_unroll_steps ({n_steps}){tail}, or use more text."
        )
    rows = ids[: batch_size * words_per_row].reshape(batch_size, words_per_row)
    covered = (words_per_row - 1) // n_steps * n_steps
    words, targets = rows[:, :covered], rows[:, 1 : covered + 1]
    scored = np.broadcast_to(True, words.shape)
    return Windows(words, targets, scored, n_steps, len(ids) - words.size)


def all_windows(ids, batch_size, n_steps, split):
    """Cuts a text such that every word after the first is a target, once.

    The text's len(ids) - 1 pairs of a word and the next are dealt to the rows one after
    another, as many to each, rounded up; the last rows may be shorter, or empty. What
    fills them, and the last window, is not scored. One row is the whole text, read from
    beginning to end; of more than one, each begins in a state of zeros.

    Args, returns: see `windows`.

    Raises:
        DataError: the text has no word after the first.
    """
    n_pairs = len(ids) - 1
    if n_pairs < 1:
        raise DataError(
            f"The {split} split has no word after its first; use more text."
        )
    per_row = -(-n_pairs // batch_size)
    steps = -(-per_row // n_steps) * n_steps
    place = np.arange(batch_size)[:, None] * per_row + np.arange(steps)
    scored = (place < n_pairs) & (np.arange(steps) < per_row)
    place = np.where(scored, place, 0)
    return Windows(ids[place], ids[place + 1], scored, n_steps, 1)

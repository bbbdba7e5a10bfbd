"""Text to word ids and back, and the windows that truncated back-propagation sees.

The same vocabulary, ids and windows as the release's reader (release:
`language_modeling/reader.py`): one word is what stands between blanks, the end of a
line is a word of its own, and the vocabulary is that of the training file.

The work is done elsewhere: `text` cuts words, `tokens` makes ids of them, `corpus`
keeps them in files, `cache` keeps those.
"""

import dataclasses
import os
import tempfile
from pathlib import Path

import numpy as np

from language_modeling.corpora import cache, corpus
from language_modeling.corpora.corpus import SPLITS, UNKNOWN, Corpus
from language_modeling.corpora.text import DataError
from language_modeling.corpora.vocabulary import UNK

__all__ = [
    "SPLITS",
    "UNK",
    "UNKNOWN",
    "Corpus",
    "DataError",
    "Windows",
    "all_windows",
    "find",
    "read",
    "windows",
]


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
    if not os.path.isdir(folder):  # Path's own raises where it may not look
        raise DataError(
            f"--data_dir: there is no folder {folder}; give a folder with train.txt, "
            "valid.txt and test.txt, or fetch the Penn Treebank with "
            "`python scripts/get_ptb.py`."
        )
    for pattern in ("ptb.{}.txt", "{}.txt"):
        paths = {split: folder / pattern.format(split) for split in SPLITS}
        found = [path for path in paths.values() if os.path.isfile(path)]
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


def read(paths, eos="<eos>", unknown="drop", vocab_size=None, cache_dir=None):
    """Reads a corpus, of any size: its ids are made once and then mapped from files.

    Lines may end in LF, CRLF or CR, and a byte order mark at the beginning is no part
    of the text. A blank line is a line: it has the word for its end.

    Args:
        paths: dict from split to path, from `find`.
        eos: the word that stands for the end of a line.
        unknown: what becomes of words that the training file does not have: `drop`,
            as in the release; `unk`, they are read as `<unk>`; `error`.
        vocab_size: how many words the vocabulary may have, or None for all. The most
            frequent of the training file are kept, of equally frequent ones the first
            in the alphabet, and always `<unk>` and `eos`; every other word is read as
            `<unk>`, in all splits, so `drop` and `unk` are then the same.
        cache_dir: folder in which the ids are kept, see `corpora.cache`; None
            keeps them as long as they are used.

    Returns:
        `Corpus`.

    Raises:
        DataError: a file cannot be read, is no text in UTF-8 or has no words; there
            are unknown words where none may be, or there is no `<unk>` for them; the
            vocabulary does not fit into memory; the ids cannot be written.
    """
    options = corpus.Options(eos, unknown, vocab_size)
    options.check()
    if cache_dir is not None:
        return cache.read(paths, options, cache_dir)
    with tempfile.TemporaryDirectory() as name, corpus.writing(name):
        corpus.prepare(paths, options, Path(name))
        return corpus.load(Path(name))  # what is mapped outlives its folder


@dataclasses.dataclass(frozen=True)
class Windows:
    """A text cut for truncated back-propagation.

    The text stands in `batch_size` rows; window i holds the steps i * n_steps ..
    (i + 1) * n_steps of every row, so a row's windows follow one another too, and carry
    their state. A window is read from the text when it is asked for.

    Attributes:
        ids: int32 `[words]`.
        batch_size: number of rows.
        per_row: words from the beginning of a row to that of the next.
        n_steps: steps per window.
        n_windows: how many windows there are.
        n_uncovered: how many of the text's words are no target, the first ones of the
            rows among them.
    """

    ids: np.ndarray
    batch_size: int
    per_row: int
    n_steps: int
    n_windows: int
    n_uncovered: int

    def __len__(self):
        return self.n_windows

    def __getitem__(self, i):
        """`(words, targets, scored)` of a window, each `[batch_size, n_steps]`.

        What is read, int32; the word after each, int32; and whether that is one of the
        text that counts in this row, bool.
        """
        if not 0 <= i < len(self):
            raise IndexError(f"window {i} of {len(self)}")
        place, scored = self.places(i)
        return self.ids[place], self.ids[place + 1], scored

    def places(self, i):
        """`(places, scored)` of window i, each `[batch_size, n_steps]`.

        Where in the text stands what is read, 0 if it does not count; and `scored`, see
        above.
        """
        step = np.arange(i * self.n_steps, (i + 1) * self.n_steps)
        place = np.arange(self.batch_size)[:, None] * self.per_row + step
        scored = (step < self.per_row) & (place + 1 < len(self.ids))
        return np.where(scored, place, 0), scored


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
    if words_per_row <= n_steps and _n_pairs(ids, split):
        tail = "" if split == "train" else ", give --score_tail"
        raise DataError(
            f"The {split} split has {len(ids)} words, fewer than the "
            f"{batch_size * (n_steps + 1)} that one window needs; lower --batch_size "
            f"({batch_size}) or --num_unroll_steps ({n_steps}){tail}, or use more text."
        )
    n_windows = (words_per_row - 1) // n_steps
    n_uncovered = len(ids) - batch_size * n_windows * n_steps
    return Windows(ids, batch_size, words_per_row, n_steps, n_windows, n_uncovered)


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
    per_row = -(-_n_pairs(ids, split) // batch_size)
    return Windows(ids, batch_size, per_row, n_steps, -(-per_row // n_steps), 1)


def _n_pairs(ids, split):
    """How many of a text's words have a word before them: at least one."""
    if len(ids) < 2:
        raise DataError(
            f"The {split} split has fewer than two words that the model knows; use "
            "more text."
        )
    return len(ids) - 1

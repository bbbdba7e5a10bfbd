"""The windows of a text that truncated back-propagation sees.

They are those of the release's reader (release: `language_modeling/reader.py`).
"""

import dataclasses

import numpy as np

from language_modeling.corpora.text import DataError


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
    n_unscored: int

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


def whole_windows(ids, batch_size, n_steps, split):
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
    n_unscored = len(ids) - batch_size * n_windows * n_steps
    return Windows(ids, batch_size, words_per_row, n_steps, n_windows, n_unscored)


def all_windows(ids, batch_size, n_steps, split):
    """Cuts a text such that every word after the first is a target, once.

    The text's len(ids) - 1 pairs of a word and the next are dealt to the rows one after
    another, as many to each, rounded up; the last rows may be shorter, or empty. What
    fills them, and the last window, is not scored. One row is the whole text, read from
    beginning to end; of more than one, each begins in a state of zeros.

    Args, returns: see `whole_windows`.

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

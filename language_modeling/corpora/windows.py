"""Windows of a text for truncated back-propagation.

They are those of the release's reader (release: `language_modeling/reader.py`).
"""

import dataclasses

import numpy as np

from dsc.cli.errors import RunError


@dataclasses.dataclass(frozen=True)
class Windows:
    """A text cut into rows, and the rows into windows.

    Window i holds the steps i * n_steps .. (i + 1) * n_steps of every row, so each
    window continues the one before and takes over its state. A window is read from the
    text on access.

    Attributes:
        ids: int32 `[words]`.
        batch_size: number of rows.
        per_row: words from the start of a row to the start of the next.
        n_steps: steps per window.
        n_windows: number of windows.
        n_unscored: number of words of the text that are not predicted.
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
        """`(words, targets, scored)` of window i, each `[batch_size, n_steps]`.

        The input, int32; the word after each, int32; whether that word counts, bool.
        """
        if not 0 <= i < len(self):
            raise IndexError(f"window {i} of {len(self)}")
        position, scored = self.positions(i)
        return self.ids[position], self.ids[position + 1], scored

    def positions(self, i):
        """`(positions, scored)` of window i, each `[batch_size, n_steps]`.

        Where the input stands in the text, 0 where it is not scored.
        """
        step = np.arange(i * self.n_steps, (i + 1) * self.n_steps)
        position = np.arange(self.batch_size)[:, None] * self.per_row + step
        scored = (step < self.per_row) & (position + 1 < len(self.ids))
        return np.where(scored, position, 0), scored


def whole_windows(ids, batch_size, n_steps, split):
    """Cuts a text as the release does: what fills no whole window is left out.

    Args:
        ids: int32 `[words]`.
        batch_size: number of rows, each of len(ids) // batch_size words.
        n_steps: steps per window.
        split: the text's name, for the error message.

    Returns:
        `Windows` with at least one window.

    Raises:
        RunError: the text is too short for one window.
    """
    per_row = len(ids) // batch_size
    if per_row <= n_steps and _n_pairs(ids, split):
        tail = "" if split == "train" else ", give --score_tail"
        raise RunError(
            f"The {split} split has {len(ids)} words, fewer than the "
            f"{batch_size * (n_steps + 1)} that one window needs; lower --batch_size "
            f"({batch_size}) or --num_unroll_steps ({n_steps}){tail}, or use more text."
        )
    n_windows = (per_row - 1) // n_steps
    n_unscored = len(ids) - batch_size * n_windows * n_steps
    return Windows(ids, batch_size, per_row, n_steps, n_windows, n_unscored)


def all_windows(ids, batch_size, n_steps, split):
    """Cuts a text such that every word after the first is predicted once.

    The len(ids) - 1 pairs of a word and the next are split evenly over the rows,
    rounded up; the last rows may be shorter or empty. Padding is not scored. With one
    row the text is read from start to end; with more, each row starts from a state of
    zeros.

    Args, returns: see `whole_windows`.

    Raises:
        RunError: the text has fewer than two words.
    """
    per_row = -(-_n_pairs(ids, split) // batch_size)
    return Windows(ids, batch_size, per_row, n_steps, -(-per_row // n_steps), 1)


def _n_pairs(ids, split):
    """The number of words that have a word before them, at least one."""
    if len(ids) < 2:
        raise RunError(
            f"The {split} split has fewer than two words that the model knows; use "
            "more text."
        )
    return len(ids) - 1

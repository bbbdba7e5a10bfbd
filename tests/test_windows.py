"""Windows of a text."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsc.cli.errors import RunError
from language_modeling.corpora import all_windows, whole_windows


# Two rows of five words, cut from ten of eleven; two windows of two steps.
def test_windows_of_a_literal_text():
    cut = whole_windows(np.arange(11, dtype=np.int32), 2, 2, "train")
    assert len(cut) == 2
    all_of_them = [[True, True]] * 2
    expected = [[[0, 1], [5, 6]], [[1, 2], [6, 7]], all_of_them]
    assert [part.tolist() for part in cut[0]] == expected
    assert [part.dtype for part in cut[0]] == [np.int32, np.int32, bool]
    expected = [[[2, 3], [7, 8]], [[3, 4], [8, 9]], all_of_them]
    assert [part.tolist() for part in cut[1]] == expected
    for i in (-1, 2):
        with pytest.raises(IndexError):
            cut[i]


@pytest.mark.parametrize(
    ("n_words", "batch", "n_steps"),
    [(100, 1, 3), (101, 4, 6), (97, 3, 2), (96, 8, 11), (26, 2, 12)],
)
def test_rows_continue_over_windows_and_predict_each_word_once(n_words, batch, n_steps):
    ids = np.arange(n_words)  # a word is its own position
    cut = whole_windows(ids, batch, n_steps, "train")
    n_windows = (n_words // batch - 1) // n_steps
    assert len(cut) == n_windows
    pairs = [cut[i][:2] for i in range(n_windows)]
    words, targets = (np.concatenate(part, axis=1) for part in zip(*pairs, strict=True))
    assert words.shape == (batch, n_windows * n_steps)
    np.testing.assert_array_equal(np.diff(words, axis=1), 1)
    np.testing.assert_array_equal(words[:, 0], np.arange(batch) * (n_words // batch))
    np.testing.assert_array_equal(targets, words + 1)
    assert len(np.unique(targets)) == targets.size


def test_the_penn_treebank_has_1327_windows_of_the_release():
    ids = np.zeros(929_589, np.int32)
    assert len(whole_windows(ids, 20, 35, "train")) == 1327


def test_one_window_needs_one_word_more_than_its_steps_in_each_row():
    batch, n_steps = 3, 4
    enough = np.zeros(batch * (n_steps + 1), np.int32)
    assert len(whole_windows(enough, batch, n_steps, "valid")) == 1
    with pytest.raises(RunError) as error:
        whole_windows(enough[1:], batch, n_steps, "valid")
    assert str(error.value) == (
        "The valid split has 14 words, fewer than the 15 that one window needs; lower "
        "--batch_size (3) or --num_unroll_steps (4), give --score_tail, or use more "
        "text."
    )


def test_unscored_words_are_counted():
    assert whole_windows(np.arange(11), 2, 2, "train").n_unscored == 11 - 8
    assert all_windows(np.arange(11), 2, 2, "valid").n_unscored == 1


# Every word


@given(n_words=st.integers(2, 60), batch=st.integers(1, 9), n_steps=st.integers(1, 12))
@settings(deadline=None)
def test_with_the_tail_every_word_after_the_first_is_scored_once(
    n_words, batch, n_steps
):
    cut = all_windows(np.arange(n_words), batch, n_steps, "test")
    pairs = []
    for i in range(len(cut)):
        words, targets, scored = cut[i]
        assert words.shape == targets.shape == scored.shape == (batch, n_steps)
        np.testing.assert_array_equal(targets[scored], words[scored] + 1)
        pairs.append(np.where(scored, targets, -1))
    rows = np.concatenate(pairs, axis=1)
    # Read row by row the targets are the text, and a row has no gap.
    assert [t for row in rows for t in row if t >= 0] == list(range(1, n_words))
    assert all((np.diff((row >= 0).astype(int)) <= 0).all() for row in rows)


def test_only_the_window_of_a_text_is_read():
    class Watched(np.ndarray):
        n_read = 0

        def __getitem__(self, place):
            Watched.n_read += np.size(place)
            return np.asarray(self)[place]

    ids = np.arange(10_000, dtype=np.int32).view(Watched)
    for cut in whole_windows, all_windows:
        cut(ids, 3, 5, "test")[2]
    assert Watched.n_read == 4 * 3 * 5


def test_a_text_of_one_word_has_nothing_to_score():
    for cut in whole_windows, all_windows:
        for n_words in 0, 1:
            with pytest.raises(RunError, match="test split has fewer than two words"):
                cut(np.zeros(n_words, np.int32), 1, 3, "test")

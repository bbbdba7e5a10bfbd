"""Text becomes the release's ids and windows, and unusable text a clear sentence."""

import collections
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from language_modeling.corpora import (
    UNKNOWN,
    DataError,
    all_windows,
    find_splits,
    read_corpus,
    whole_windows,
)

ROOT = Path(__file__).resolve().parents[1]
PTB = ROOT.parent / "shared" / "data" / "ptb"

# Facts about the files of the authors' release: tokens, sha256 of the int32 ids.
PUBLISHED = {
    "train": (
        929589,
        "13ceaa94f7754f019f361799bfe0af70af87d2d5d704777713f8c47abbd875bf",
    ),
    "valid": (
        73760,
        "1ae16940fddcb4e7fc4bb304d67ff5c32060cd30efe6398cfe348373994685f4",
    ),
    "test": (
        82430,
        "73358916a785a35ac9c6d358423dcab4a2f43c3cefe3cd6d28951581100e80b9",
    ),
}

TRAIN = "to Be or\nnot to Be\na a\n\nto\n"
VALID = "to sleep\nor a dream\n"
TEST = "not a\n"
# <eos> 5, to 3, then the words that occur twice and once, capitals first.
VOCABULARY = ("<eos>", "to", "Be", "a", "not", "or")


def put(folder, train=TRAIN, valid=VALID, test=TEST, pattern="{}.txt"):
    """Writes a corpus; None leaves a file out."""
    folder.mkdir(exist_ok=True)
    for split, text in ("train", train), ("valid", valid), ("test", test):
        if text is not None:
            data = text if isinstance(text, bytes) else text.encode()
            (folder / pattern.format(split)).write_bytes(data)
    return folder


@pytest.fixture
def corpus(tmp_path):
    return read_corpus(find_splits(put(tmp_path)))


@pytest.fixture(scope="module")
def ptb():
    if not PTB.is_dir():
        pytest.skip(f"there is no Penn Treebank in {PTB}")
    return read_corpus(find_splits(PTB))


@pytest.mark.parametrize("split", PUBLISHED)
def test_the_penn_treebank_has_the_published_ids(ptb, split):
    ids = ptb.ids[split]
    digest = sha256(ids.astype("<i4").tobytes()).hexdigest()
    assert (len(ids), digest) == PUBLISHED[split]
    assert ptb.n_unknown[split] == 0


def test_the_penn_treebank_has_the_published_vocabulary(ptb):
    assert len(ptb.vocabulary) == len(set(ptb.vocabulary)) == 10000
    assert ptb.vocabulary[:5] == ("the", "<unk>", "<eos>", "N", "of")
    first = [9970, 9971, 9972, 9974, 9975, 9976, 9980, 9981, 9982, 9983]
    assert ptb.ids["train"][:10].tolist() == first


def test_vocabulary_is_by_falling_count_and_ties_by_the_word_itself(corpus):
    assert corpus.vocabulary == VOCABULARY


def test_ids_are_places_in_the_vocabulary_and_each_line_ends_with_eos(corpus):
    assert corpus.ids["train"].tolist() == [1, 2, 5, 0, 4, 1, 2, 0, 3, 3, 0, 0, 1, 0]
    assert corpus.ids["test"].tolist() == [4, 3, 0]
    assert all(ids.dtype == np.int32 for ids in corpus.ids.values())


def test_words_that_the_training_file_lacks_are_dropped_and_counted(corpus):
    assert corpus.ids["valid"].tolist() == [1, 0, 5, 3, 0]  # without sleep and dream
    assert corpus.n_unknown == {"train": 0, "valid": 2, "test": 0}


def test_another_word_can_stand_for_the_end_of_a_line(tmp_path):
    corpus = read_corpus(find_splits(put(tmp_path)), eos="zzz")
    assert corpus.vocabulary == ("zzz", "to", "Be", "a", "not", "or")
    # The words of the text itself may be used too, and are then counted together.
    assert read_corpus(find_splits(tmp_path), eos="to").vocabulary[0] == "to"
    assert "<eos>" not in read_corpus(find_splits(tmp_path), eos="to").vocabulary


@pytest.mark.parametrize("text", ["a b\nb", " a \t b \n b ", "a b\r\nb"])
def test_blanks_around_words_and_a_missing_last_newline_change_nothing(tmp_path, text):
    corpus = read_corpus(find_splits(put(tmp_path, text, text, text)))
    words = [corpus.vocabulary[i] for i in corpus.ids["test"]]
    assert words == ["a", "b", "<eos>", "b"]


def test_words_may_be_of_any_alphabet(tmp_path):
    corpus = read_corpus(find_splits(put(tmp_path, "καλή ñ\n", "ñ\n", "καλή\n")))
    assert corpus.vocabulary == ("<eos>", "ñ", "καλή")


@pytest.mark.parametrize("pattern", ["{}.txt", "ptb.{}.txt"])
def test_files_are_found_under_both_names(tmp_path, pattern):
    paths = find_splits(str(put(tmp_path, pattern=pattern)))
    assert paths == {
        split: tmp_path / pattern.format(split) for split in ("train", "valid", "test")
    }


# Two rows of five words, cut from ten of eleven; two windows of two steps.
def test_windows_of_a_literal_text():
    cut = whole_windows(np.arange(11, dtype=np.int32), 2, 2, "train")
    assert len(cut) == 2
    all_of_them = [[True, True]] * 2
    expected = [[[0, 1], [5, 6]], [[1, 2], [6, 7]], all_of_them]
    assert [part.tolist() for part in cut[0]] == expected
    expected = [[[2, 3], [7, 8]], [[3, 4], [8, 9]], all_of_them]
    assert [part.tolist() for part in cut[1]] == expected
    for i in (-1, 2):
        with pytest.raises(IndexError):
            cut[i]


@pytest.mark.parametrize(
    ("n_words", "batch", "n_steps"),
    [(100, 1, 3), (101, 4, 6), (97, 3, 2), (96, 8, 11), (26, 2, 12)],
)
def test_rows_go_on_from_window_to_window_and_predict_each_word_once(
    n_words, batch, n_steps
):
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
    ids = np.zeros(PUBLISHED["train"][0], np.int32)
    assert len(whole_windows(ids, 20, 35, "train")) == 1327


def test_one_window_needs_one_word_more_than_its_steps_in_each_row():
    batch, n_steps = 3, 4
    enough = np.zeros(batch * (n_steps + 1), np.int32)
    assert len(whole_windows(enough, batch, n_steps, "valid")) == 1
    with pytest.raises(DataError) as error:
        whole_windows(enough[1:], batch, n_steps, "valid")
    message = str(error.value)
    assert "valid split has 14 words" in message
    assert "15" in message and "--batch_size" in message
    assert "--num_unroll_steps" in message and "use more text" in message


def test_missing_folder_is_named_with_a_way_to_get_one(tmp_path):
    for name in "gone", "n" * 300:  # which is no name
        with pytest.raises(DataError, match=rf"--data_dir: .*{name}; give .*get_ptb"):
            find_splits(tmp_path / name)


def test_folder_without_a_corpus_is_named(tmp_path):
    with pytest.raises(DataError, match=r"--data_dir: .* has neither .*; give a"):
        find_splits(tmp_path)


@pytest.mark.parametrize("missing", ["train", "valid", "test"])
@pytest.mark.parametrize("pattern", ["{}.txt", "ptb.{}.txt"])
def test_the_one_missing_file_is_named(tmp_path, missing, pattern):
    put(tmp_path, **{missing: None}, pattern=pattern)
    name = pattern.format(missing)
    with pytest.raises(DataError, match=rf"--data_dir: .* not {name}; all three"):
        find_splits(tmp_path)


def test_text_that_is_not_utf_8_is_named_with_the_byte_and_a_remedy(tmp_path):
    paths = find_splits(put(tmp_path, valid=b"un caf\xe9\n"))
    with pytest.raises(DataError, match=r"valid\.txt is not UTF-8 .*byte 6.*; convert"):
        read_corpus(paths)
    with pytest.raises(DataError, match=r"`iconv -f \w+ -t utf-8`"):
        read_corpus(paths)


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_empty_file_is_named(tmp_path, split):
    paths = find_splits(put(tmp_path, **{split: ""}))
    with pytest.raises(DataError, match=rf"{split}\.txt has no words"):
        read_corpus(paths)


def test_message_about_an_empty_file_says_what_to_do(tmp_path):
    with pytest.raises(DataError, match=r"has no words in it; \w+"):
        read_corpus(find_splits(put(tmp_path, valid="")))


def test_file_that_has_gone_is_named(tmp_path):
    paths = find_splits(put(tmp_path))
    paths["test"].unlink()
    with pytest.raises(DataError, match=r"test\.txt cannot be read"):
        read_corpus(paths)


@pytest.mark.parametrize("eos", ["", " ", "the end", "a\tb"])
def test_an_end_of_line_that_is_not_one_word_is_refused(tmp_path, eos):
    with pytest.raises(DataError, match="--EOS must be one word"):
        read_corpus(find_splits(put(tmp_path)), eos=eos)


# Text as people have it


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace(b"\n", b"\r\n"),
        lambda text: text.replace(b"\n", b"\r"),
        lambda text: b"\xef\xbb\xbf" + text,
    ],
    ids=["CRLF", "CR", "BOM"],
)
def test_line_ends_and_a_byte_order_mark_are_no_part_of_the_text(tmp_path, change):
    plain = read_corpus(find_splits(put(tmp_path / "a")))
    texts = (change(text.encode()) for text in (TRAIN, VALID, TEST))
    changed = read_corpus(find_splits(put(tmp_path / "b", *texts)))
    assert changed.vocabulary == plain.vocabulary
    assert changed.digests == plain.digests


def test_a_nul_byte_is_named_with_its_line(tmp_path):
    paths = find_splits(put(tmp_path, valid=b"a\nb\nto\0be\n"))
    with pytest.raises(
        DataError, match=r"valid\.txt has a NUL byte in line 3, .*; put"
    ):
        read_corpus(paths)


def test_blank_lines_are_lines_and_one_gigantic_line_is_a_line(tmp_path):
    corpus = read_corpus(find_splits(put(tmp_path, "a\n\n\n", "a " * 300_000, "\n")))
    a, eos = (corpus.vocabulary.index(word) for word in ("a", "<eos>"))
    assert corpus.ids["train"].tolist() == [a, eos, eos, eos]
    assert corpus.ids["test"].tolist() == [eos]
    assert (corpus.ids["valid"] == a).all() and len(corpus.ids["valid"]) == 300_000


def test_unknown_words_are_read_as_unk_or_refused_if_that_is_asked(tmp_path):
    paths = find_splits(put(tmp_path, train=TRAIN + "<unk>\n"))
    corpus = read_corpus(paths, unknown="unk")
    words = [corpus.vocabulary[i] for i in corpus.ids["valid"]]
    assert words == ["to", "<unk>", "<eos>", "or", "a", "<unk>", "<eos>"]
    assert corpus.n_unknown == {"train": 0, "valid": 2, "test": 0}
    with pytest.raises(DataError, match=r"valid\.txt has 2 words .*'sleep' first; put"):
        read_corpus(paths, unknown="error")
    with pytest.raises(DataError, match=r"--unknown unk: .* no word <unk>; leave"):
        read_corpus(find_splits(put(tmp_path)), unknown="unk")


def test_a_digest_tells_other_words_and_other_ids(tmp_path):
    first = read_corpus(find_splits(put(tmp_path))).digests
    other_test = read_corpus(find_splits(put(tmp_path, test="a not\n"))).digests
    assert {s for s in first if first[s] != other_test[s]} == {"test"}
    renamed = read_corpus(
        find_splits(put(tmp_path, *("\n".join(["x y", "y"]),) * 3))
    ).digests
    swapped = read_corpus(
        find_splits(put(tmp_path, *("\n".join(["z y", "y"]),) * 3))
    ).digests
    assert all(renamed[s] != swapped[s] for s in first)


def test_the_words_that_no_window_predicts_are_counted():
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


@given(
    n_words=st.integers(2, 90),
    batch=st.integers(1, 7),
    n_steps=st.integers(1, 9),
    tail=st.booleans(),
)
@settings(deadline=None)
def test_windows_are_those_that_were_once_cut_all_at_once(
    n_words, batch, n_steps, tail
):
    ids = np.arange(n_words, dtype=np.int32) * 3
    if not tail and n_words // batch <= n_steps:
        return
    cut = (all_windows if tail else whole_windows)(ids, batch, n_steps, "test")
    if tail:
        per_row = -(-(n_words - 1) // batch)
        place = np.arange(batch)[:, None] * per_row + np.arange(len(cut) * n_steps)
        scored = (place < n_words - 1) & (np.arange(len(cut) * n_steps) < per_row)
        words, targets = (ids[np.where(scored, place + i, i)] for i in (0, 1))
    else:
        rows = ids[: n_words // batch * batch].reshape(batch, -1)
        covered = (rows.shape[1] - 1) // n_steps * n_steps
        words, targets = rows[:, :covered], rows[:, 1 : covered + 1]
        scored = np.ones_like(words, bool)
    joined = [np.concatenate(part, axis=1) for part in zip(*cut, strict=True)]
    for found, expected in zip(joined, (words, targets, scored), strict=True):
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == expected.dtype


def test_of_a_text_only_the_window_is_read():
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
            with pytest.raises(
                DataError, match=r"test split has fewer than two words t"
            ):
                cut(np.zeros(n_words, np.int32), 1, 3, "test")


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=9), st.sampled_from([b"a ", b"\n", b"\r\n", b"<unk>"])
        ),
        max_size=30,
    ).map(b"".join),
    st.sampled_from(UNKNOWN),
)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_a_corpus_or_a_sentence(tmp_path, content, unknown):
    paths = find_splits(put(tmp_path, "a b <unk>\n", content, "b\n"))
    try:
        corpus = read_corpus(paths, unknown=unknown)
    except DataError as error:
        assert str(paths["valid"]) in str(error) and "\n" not in str(error)
        return
    text = content.decode("utf-8-sig")
    n_words = len(text.split()) + text.replace("\r\n", "\n").replace("\r", "\n").count(
        "\n"
    )
    n_dropped = corpus.n_unknown["valid"] if unknown == "drop" else 0
    assert len(corpus.ids["valid"]) == n_words - n_dropped


# As it was when all was in memory


PIECES = [
    "a",
    "b",
    "B",
    "bé",
    "日本",
    *[" "] * 5,
    "\n",
    "\u2028",
    "\t",
    "zz zz ",
    "\x85",
]


def read_at_once(texts, eos, unknown):
    """What `read` returned when it had all text in memory: the oracle."""
    words = {
        split: text.replace("\n", f" {eos} ").split()
        for split, text in zip(("train", "valid", "test"), texts, strict=True)
    }
    counts = collections.Counter(words["train"])
    vocabulary = sorted(counts, key=lambda word: (-counts[word], word))
    index = {word: i for i, word in enumerate(vocabulary)}
    stand_in = index["<unk>"] if unknown == "unk" else None
    found = {s: [index.get(word, stand_in) for word in words[s]] for s in words}
    ids = {s: [i for i in found[s] if i is not None] for s in words}
    n_unknown = {s: sum(word not in index for word in words[s]) for s in words}
    return tuple(vocabulary), ids, n_unknown


@given(
    texts=st.tuples(*[st.lists(st.sampled_from(PIECES), max_size=50)] * 3),
    unknown=st.sampled_from(["drop", "unk"]),
)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_vocabulary_and_ids_are_those_of_a_text_in_memory(tmp_path, texts, unknown):
    texts = ["<unk> " + "".join(pieces) for pieces in texts]
    corpus = read_corpus(find_splits(put(tmp_path, *texts)), unknown=unknown)
    vocabulary, ids, n_unknown = read_at_once(texts, "<eos>", unknown)
    assert corpus.vocabulary == vocabulary
    assert {split: i.tolist() for split, i in corpus.ids.items()} == ids
    assert corpus.n_unknown == n_unknown

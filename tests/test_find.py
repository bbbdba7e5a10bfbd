"""Finding the files of a corpus, and reading them as the release does."""

import collections
from hashlib import sha256

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dsc.cli.errors import RunError
from language_modeling.corpora import find_splits, read_corpus

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
# <eos> 5 times, to 3 times, then the words that occur twice and once.
VOCABULARY = ("<eos>", "to", "Be", "a", "not", "or")


def put(folder, train=TRAIN, valid=VALID, test=TEST, pattern="{}.txt"):
    """Writes a corpus; None leaves a file out."""
    folder.mkdir(exist_ok=True)
    for split, text in ("train", train), ("valid", valid), ("test", test):
        if text is not None:
            (folder / pattern.format(split)).write_text(text)
    return folder


def test_the_penn_treebank_has_the_published_vocabulary_and_ids(ptb):
    corpus = read_corpus(find_splits(ptb))
    for split, published in PUBLISHED.items():
        ids = corpus.ids[split]
        digest = sha256(ids.astype("<i4").tobytes()).hexdigest()
        assert (len(ids), digest) == published
        assert corpus.n_unknown[split] == 0
    assert len(corpus.vocabulary) == len(set(corpus.vocabulary)) == 10000
    assert corpus.vocabulary[:5] == ("the", "<unk>", "<eos>", "N", "of")


@pytest.mark.slow
def test_the_penn_treebank_has_the_published_numbers_of_characters(ptb):
    corpus = read_corpus(find_splits(ptb, "char"), level="char")
    assert len(corpus.vocabulary) == 50
    thousands = {split: len(ids) // 1000 for split, ids in corpus.ids.items()}
    assert thousands == {"train": 5017, "valid": 393, "test": 442}


@pytest.mark.parametrize("cached", [False, True])
def test_characters_of_either_form_get_the_same_ids(tmp_path, cached):
    cache_dir = tmp_path / "cache" if cached else None
    plain = put(tmp_path / "plain", "to_be  or\nto\n", "or", "be\n")
    spelled = "t o __ b e _ o r\nt o\n", "o r", "b e\n"
    # The same content as words, and as the characters and blanks of other files.
    others = [(put(tmp_path / "x", *spelled), level) for level in ("word", "char")]
    put(plain.with_name("both"), *spelled, pattern="ptb.char.{}.txt")
    both = put(plain.with_name("both"), pattern="ptb.{}.txt")
    found = [
        read_corpus(find_splits(folder, level), cache_dir=cache_dir, level=level)
        for folder, level in [*others, (plain, "char"), (both, "char")]
    ]
    as_words, blanks, first, second = (c.digests for c in found)
    assert first == second == as_words != blanks
    assert found[2].vocabulary == ("o", "<eos>", "t", "_", "__", "b", "e", "r")
    assert found[2].ids["train"].tolist() == [2, 0, 4, 5, 6, 3, 0, 7, 1, 2, 0, 1]
    assert find_splits(both)["train"].name == "ptb.train.txt"


def test_a_small_corpus_by_hand(tmp_path):
    corpus = read_corpus(find_splits(put(tmp_path)))
    assert corpus.vocabulary == VOCABULARY
    assert corpus.ids["train"].tolist() == [1, 2, 5, 0, 4, 1, 2, 0, 3, 3, 0, 0, 1, 0]
    assert corpus.ids["valid"].tolist() == [1, 0, 5, 3, 0]  # without sleep and dream
    assert corpus.ids["test"].tolist() == [4, 3, 0]
    assert corpus.n_unknown == {"train": 0, "valid": 2, "test": 0}


def test_another_word_can_mark_the_end_of_a_line(tmp_path):
    paths = find_splits(put(tmp_path))
    assert read_corpus(paths, eos="zzz").vocabulary == ("zzz", *VOCABULARY[1:])
    # A word of the text is counted together with the ends.
    assert read_corpus(paths, eos="to").vocabulary == ("to", *VOCABULARY[2:])


@pytest.mark.parametrize("eos", ["", " ", "the end", "a\tb"])
def test_an_end_of_line_that_is_not_one_word_is_refused(tmp_path, eos):
    with pytest.raises(RunError, match="--EOS must be one word"):
        read_corpus(find_splits(put(tmp_path)), eos=eos)


def test_unknown_words_are_read_as_unk_or_refused(tmp_path):
    paths = find_splits(put(tmp_path, train=TRAIN + "<unk>\n"))
    corpus = read_corpus(paths, unknown="unk")
    words = [corpus.vocabulary[i] for i in corpus.ids["valid"]]
    assert words == ["to", "<unk>", "<eos>", "or", "a", "<unk>", "<eos>"]
    assert corpus.n_unknown == {"train": 0, "valid": 2, "test": 0}
    with pytest.raises(RunError, match=r"valid\.txt has 2 words .*'sleep' first; add"):
        read_corpus(paths, unknown="error")
    with pytest.raises(RunError, match=r"--unknown unk: .* no word <unk>; leave"):
        read_corpus(find_splits(put(tmp_path)), unknown="unk")


def test_digests_distinguish_words_and_ids(tmp_path):
    def digests(**texts):
        return read_corpus(find_splits(put(tmp_path, **texts))).digests

    first, other_test = digests(), digests(test="a not\n")
    assert {s for s in first if first[s] != other_test[s]} == {"test"}
    splits = ("train", "valid", "test")
    renamed, swapped = (digests(**dict.fromkeys(splits, f"{w} y\ny")) for w in "xz")
    assert all(renamed[split] != swapped[split] for split in splits)


PIECES = [*"abB\t\n\x85\u2028", *" " * 5, "bé", "日本", "zz zz "]


def read_at_once(texts, unknown):
    """The reference: vocabulary, ids and counts of texts in memory."""
    words = {
        split: text.replace("\n", " <eos> ").split()
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
@settings(
    deadline=None,
    max_examples=50,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_vocabulary_and_ids_are_those_of_a_text_in_memory(tmp_path, texts, unknown):
    texts = ["<unk> " + "".join(pieces) for pieces in texts]
    corpus = read_corpus(find_splits(put(tmp_path, *texts)), unknown=unknown)
    vocabulary, ids, n_unknown = read_at_once(texts, unknown)
    assert corpus.vocabulary == vocabulary
    assert {split: i.tolist() for split, i in corpus.ids.items()} == ids
    assert corpus.n_unknown == n_unknown


# Files


@pytest.mark.parametrize("pattern", ["{}.txt", "ptb.{}.txt", "wiki.{}.tokens"])
def test_files_are_found_under_all_names_and_a_missing_one_is_named(tmp_path, pattern):
    put(tmp_path, pattern=pattern)
    paths = {s: tmp_path / pattern.format(s) for s in ("train", "valid", "test")}
    assert find_splits(str(tmp_path)) == paths
    for path in paths.values():
        content = path.read_bytes()
        path.unlink()
        with pytest.raises(RunError, match=rf"--data_dir: .* not {path.name}; all"):
            find_splits(tmp_path)
        path.write_bytes(content)


def test_a_folder_without_a_corpus_is_named_with_a_way_to_get_one(tmp_path):
    with pytest.raises(RunError, match=r"--data_dir: .* has neither .*; give a"):
        find_splits(tmp_path)
    for name in "gone", "n" * 300:  # too long for a file system
        with pytest.raises(RunError, match=rf"--data_dir: .*{name}; give .*get_ptb"):
            find_splits(tmp_path / name)


def test_a_file_that_has_gone_is_named(tmp_path):
    paths = find_splits(put(tmp_path))
    paths["test"].unlink()
    with pytest.raises(RunError, match=r"test\.txt cannot be read"):
        read_corpus(paths)

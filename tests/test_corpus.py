"""A prepared corpus comes back whole, or is known to be damaged."""

import json
import mmap

import numpy as np
import pytest

from dsc.runs import atomic_io
from language_modeling.corpora import corpus
from language_modeling.corpora.corpus import Options, load, prepare
from language_modeling.corpora.text import DataError

TEXTS = {"train": "to be or\nnot to\n", "valid": "be sleep\n", "test": "dream"}


@pytest.fixture
def paths(tmp_path):
    (tmp_path / "texts").mkdir()
    paths = {split: tmp_path / "texts" / f"{split}.txt" for split in TEXTS}
    for split, path in paths.items():
        path.write_text(TEXTS[split])
    return paths


@pytest.fixture
def folder(tmp_path, paths):
    (tmp_path / "ids").mkdir()
    prepare(paths, Options(), tmp_path / "ids")
    return tmp_path / "ids"


def test_a_folder_holds_ids_vocabulary_and_digests_and_nothing_of_the_work(folder):
    names = [path.name for path in folder.iterdir()]
    (digests,) = folder.glob("corpus-*.json")
    expected = {"train.ids", "valid.ids", "test.ids", "vocabulary.txt", digests.name}
    assert set(names) == expected


def test_ids_are_mapped_and_only_read(folder):
    ids = load(folder).ids["train"]
    assert ids.tolist() == [1, 2, 4, 0, 3, 1, 0] and ids.dtype == np.int32
    root = ids
    while isinstance(root, np.ndarray):
        root = root.base
    assert isinstance(root, mmap.mmap)
    with pytest.raises(ValueError, match="read-only"):
        ids[0] = 1


def test_a_split_of_which_no_word_is_known_is_empty(folder):
    loaded = load(folder)
    assert len(loaded.ids["test"]) == 0
    assert loaded.n_unknown == {"train": 0, "valid": 1, "test": 1}


def damages():
    """Every file changed in its last byte, cut, emptied, made longer, or gone."""
    for name in ("train.ids", "valid.ids", "vocabulary.txt", "corpus-*.json"):
        yield name, lambda content: content[:-1] + bytes([content[-1] ^ 1])
        yield name, lambda content: content[:-4]
        yield name, lambda content: b""
        yield name, lambda content: content + b"\0\0\0\0"
        yield name, None


@pytest.mark.parametrize(("name", "change"), list(damages()))
def test_damage_is_known(folder, name, change):
    (path,) = folder.glob(name)
    if change:
        path.write_bytes(change(path.read_bytes()))
    else:
        path.unlink()
    with pytest.raises(ValueError, match=r"\w"):
        load(folder)


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b"null", b"[" * 99999, b'{"digests": [], "n_unk']
)
def test_hostile_digests_whose_own_is_right_are_known_too(folder, content):
    (path,) = folder.glob("corpus-*.json")
    path.unlink()
    atomic_io.write(folder / "corpus.json", content, digest=True)
    with pytest.raises(ValueError, match=r"\w"):
        load(folder)


def test_ids_that_are_not_those_of_the_digest_are_known(folder):
    (path,) = folder.glob("corpus-*.json")
    content = json.loads(path.read_bytes())
    content["digests"]["train.ids"] = 7
    path.unlink()
    atomic_io.write(folder / "corpus.json", json.dumps(content).encode(), digest=True)
    with pytest.raises(ValueError, match=r"train\.ids is damaged"):
        load(folder)


def test_no_corpus_is_a_damaged_one(tmp_path):
    with pytest.raises(ValueError, match=r"corpus-\*\.json"):
        load(tmp_path / "gone")


def test_a_vocabulary_that_no_memory_holds_is_refused_with_a_way_out(
    tmp_path, paths, monkeypatch
):
    def too_large(*_):
        raise corpus.tokens.TooLarge

    monkeypatch.setattr(corpus.tokens, "choose_vocabulary", too_large)
    (tmp_path / "ids").mkdir()
    with pytest.raises(DataError, match=r"train\.txt has more .*; give --vocab_size"):
        prepare(paths, Options(), tmp_path / "ids")


@pytest.mark.parametrize("unknown", ["drop", "unk"])
def test_with_a_smaller_vocabulary_all_other_words_are_unk(tmp_path, paths, unknown):
    (tmp_path / "ids").mkdir()
    prepare(paths, Options("<eos>", unknown, 3), tmp_path / "ids")
    loaded = load(tmp_path / "ids")
    read = {
        split: " ".join(loaded.vocabulary[i] for i in ids)
        for split, ids in loaded.ids.items()
    }
    assert read == {
        "train": "to <unk> <unk> <eos> <unk> to <eos>",
        "valid": "<unk> <unk> <eos>",
        "test": "<unk>",
    }
    assert loaded.n_unknown == {"train": 3, "valid": 2, "test": 1}
    assert loaded.vocabulary == ("<unk>", "<eos>", "to")


def test_no_word_can_be_an_error_where_all_others_are_unk():
    with pytest.raises(
        DataError, match=r"--unknown error: with --vocab_size .*; leave"
    ):
        Options(unknown="error", vocab_size=3).check()

"""Prepared corpora: what is written, and that damage is detected."""

import mmap

import numpy as np
import pytest

from dsc.cli.errors import RunError
from language_modeling.corpora import corpus
from language_modeling.corpora.corpus import Options, load, prepare

TEXTS = {"train": "to be or\nnot to\n", "valid": "be sleep\n", "test": "dream"}


@pytest.fixture
def paths(tmp_path):
    (tmp_path / "texts").mkdir()
    (tmp_path / "ids").mkdir()
    paths = {split: tmp_path / "texts" / f"{split}.txt" for split in TEXTS}
    for split, path in paths.items():
        path.write_text(TEXTS[split])
    return paths


@pytest.fixture
def folder(tmp_path, paths):
    prepare(paths, Options(), tmp_path / "ids")
    return tmp_path / "ids"


def test_a_folder_holds_ids_vocabulary_and_digests(folder):
    (digests,) = folder.glob("corpus-*.json")
    expected = {"train.ids", "valid.ids", "test.ids", "vocabulary.txt", digests.name}
    assert {path.name for path in folder.iterdir()} == expected


def test_ids_are_mapped_read_only(folder):
    ids = load(folder).ids["train"]
    assert ids.tolist() == [1, 2, 4, 0, 3, 1, 0] and ids.dtype == np.int32
    root = ids
    while isinstance(root, np.ndarray):
        root = root.base
    assert isinstance(root, mmap.mmap)
    with pytest.raises(ValueError, match="read-only"):
        ids[0] = 1


def test_a_split_without_known_words_is_empty(folder):
    loaded = load(folder)
    assert len(loaded.ids["test"]) == 0
    assert loaded.n_unknown == {"train": 0, "valid": 1, "test": 1}


@pytest.mark.parametrize(
    "name", ["train.ids", "valid.ids", "vocabulary.txt", "corpus-*.json"]
)
def test_damage_is_detected(folder, name):
    (path,) = folder.glob(name)
    whole = path.read_bytes()
    flipped = whole[:-1] + bytes([whole[-1] ^ 1])
    for content in (flipped, whole[:-4], b"", whole + bytes(4), None):
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content)
        with pytest.raises(ValueError, match=r"\w"):
            load(folder)


def test_a_missing_folder_is_damage(tmp_path):
    with pytest.raises(ValueError, match=r"corpus-\*\.json"):
        load(tmp_path / "gone")


def test_a_vocabulary_that_does_not_fit_into_memory_is_refused(
    tmp_path, paths, monkeypatch
):
    def too_large(*_):
        raise corpus.tokens.TooLarge

    monkeypatch.setattr(corpus.tokens, "choose_vocabulary", too_large)
    with pytest.raises(RunError, match=r"train\.txt has more .* smaller --vocab_size"):
        prepare(paths, Options(), tmp_path / "ids")


@pytest.mark.parametrize("unknown", ["drop", "unk"])
def test_with_a_smaller_vocabulary_all_other_words_are_unk(tmp_path, paths, unknown):
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


def test_unknown_words_cannot_be_errors_with_a_smaller_vocabulary():
    with pytest.raises(RunError, match=r"--unknown error: with --vocab_size .*leave"):
        Options(unknown="error", vocab_size=3).check()

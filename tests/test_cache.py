"""A corpus is prepared once: by one process, whole, and again if it has changed."""

import errno
import json
import os
import shutil
import subprocess
import sys
import threading
import time

import pytest

from dsc.runs import atomic_io
from language_modeling.corpora import cache, corpus
from language_modeling.corpora.corpus import Options
from language_modeling.corpora.text import DataError

TEXTS = {"train": "to be or\nnot to\n", "valid": "be or\n", "test": "to\n"}
IDS = {"train": [1, 2, 4, 0, 3, 1, 0], "valid": [2, 4, 0], "test": [1, 0]}
OPTIONS = Options()


def put(folder, **changed):
    """Writes a text in three files that were not changed of late."""
    folder.mkdir(exist_ok=True)
    paths = {split: folder / f"{split}.txt" for split in TEXTS}
    for split, path in paths.items():
        path.write_text(changed.get(split, TEXTS[split]))
        os.utime(path, ns=(0, time.time_ns() - 2 * cache.FRESH))
    return paths


@pytest.fixture
def paths(tmp_path):
    return put(tmp_path / "texts")


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def prepared(paths, folder):
    cache.read(paths, OPTIONS, folder)
    return folder


@pytest.fixture
def no_process(monkeypatch):
    """From now on nothing may be prepared."""

    def fail(*_):
        raise AssertionError("this was prepared already")

    monkeypatch.setattr(cache, "_prepare_in_a_process", fail)


@pytest.fixture
def in_this_process(monkeypatch):
    """What would be done in a process of its own is done here."""
    monkeypatch.setattr(cache, "_prepare_in_a_process", cache._prepare)


def entries(folder):
    return sorted(path for path in folder.iterdir() if path.is_dir())


def ids_of(read):
    return {split: ids.tolist() for split, ids in read.ids.items()}


def test_what_a_process_prepares_is_the_corpus(paths, folder):
    read = cache.read(paths, OPTIONS, folder)
    assert ids_of(read) == IDS
    assert read.vocabulary == ("<eos>", "to", "be", "not", "or")


def test_the_same_text_is_prepared_once(tmp_path, paths, prepared, no_process):
    assert ids_of(cache.read(paths, OPTIONS, prepared)) == IDS
    copied = put(tmp_path / "elsewhere")
    assert ids_of(cache.read(copied, OPTIONS, prepared)) == IDS


@pytest.mark.parametrize(
    "options",
    [Options("end"), Options(unknown="error"), Options(vocab_size=3)],
    ids=["EOS", "unknown", "vocab_size"],
)
def test_other_options_are_another_entry(paths, prepared, in_this_process, options):
    read = cache.read(paths, options, prepared)
    assert len(entries(prepared)) == 2
    assert (read.digests == cache.read(paths, OPTIONS, prepared).digests) == (
        options.unknown == "error"  # of which there is none
    )


@pytest.mark.parametrize("split", TEXTS)
def test_another_text_is_another_entry(tmp_path, prepared, in_this_process, split):
    changed = put(tmp_path / "texts", **{split: "not to\n"})
    read = cache.read(changed, OPTIONS, prepared)
    assert len(entries(prepared)) == 2
    words = [read.vocabulary[i] for i in read.ids[split]]
    assert words == ["not", "to", "<eos>"]


def test_a_text_is_not_read_again_unless_it_has_changed(paths, prepared, monkeypatch):
    cache.read(paths, OPTIONS, prepared)
    read = []
    digest = atomic_io.file_digest
    monkeypatch.setattr(
        atomic_io,
        "file_digest",
        lambda path, *rest: read.append(path.name) or digest(path, *rest),
    )
    texts = {path.name for path in paths.values()}
    cache.read(paths, OPTIONS, prepared)
    assert not texts & set(read)
    os.utime(paths["valid"], ns=(0, 1))
    cache.read(paths, OPTIONS, prepared)
    assert texts & set(read) == {"valid.txt"}


def test_what_was_just_prepared_is_not_read_again_to_check_it(
    paths, prepared, monkeypatch
):
    def fail(what, size):
        raise AssertionError(what)

    monkeypatch.setattr(cache, "Progress", fail)
    assert ids_of(cache.read(paths, OPTIONS, prepared)) == IDS


def test_a_file_that_may_change_within_a_tick_is_not_remembered(paths, folder):
    folder.mkdir()
    cache._digest(paths["train"], folder)
    assert len(list(folder.iterdir())) == 1
    os.utime(paths["valid"])
    cache._digest(paths["valid"], folder)
    assert len(list(folder.iterdir())) == 1


@pytest.mark.parametrize("content", [b"", b"7", b"[1", b"[]", b"{}", b"\xff", b"[" * 9])
def test_a_damaged_memory_of_digests_does_no_harm(paths, prepared, no_process, content):
    for path in prepared.glob("*.digest"):
        path.write_bytes(content)
    assert ids_of(cache.read(paths, OPTIONS, prepared)) == IDS


def test_a_text_that_changes_while_it_is_read_is_refused(
    paths, folder, in_this_process, monkeypatch
):
    prepare = corpus.prepare

    def changing(*arguments):
        prepare(*arguments)
        paths["train"].write_text("to be\n")

    monkeypatch.setattr(corpus, "prepare", changing)
    with pytest.raises(DataError, match="has changed while it was read; repeat"):
        cache.read(paths, OPTIONS, folder)
    assert entries(folder) == []


@pytest.mark.parametrize("name", ["train.ids", "vocabulary.txt", "corpus-*.json"])
def test_damage_is_said_and_mended(paths, prepared, in_this_process, capsys, name):
    (path,) = next(iter(entries(prepared))).glob(name)
    path.write_bytes(path.read_bytes()[:-4] + b"\xff\xff\xff\x7f")
    assert ids_of(cache.read(paths, OPTIONS, prepared)) == IDS
    assert " is made again: " in capsys.readouterr().out
    cache.read(paths, OPTIONS, prepared)
    assert not capsys.readouterr().out


def test_what_is_mapped_stays_though_it_is_made_again(paths, prepared, in_this_process):
    read = cache.read(paths, OPTIONS, prepared)
    (entry,) = entries(prepared)
    next(entry.glob("corpus-*")).unlink()
    cache.read(paths, OPTIONS, prepared)
    assert ids_of(read) == IDS


@pytest.mark.parametrize("call", ["number", "count", "renumber"])
def test_a_full_disk_is_a_sentence_and_leaves_nothing(
    paths, folder, in_this_process, monkeypatch, call
):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(corpus.tokens, call, full)
    with pytest.raises(
        DataError, match=r"--cache_dir: cannot write to .*cache \(No space .*\); free"
    ):
        cache.read(paths, OPTIONS, folder)
    assert entries(folder) == []


def test_a_cache_that_cannot_be_a_folder_is_a_sentence(paths, folder):
    folder.write_text("a file")
    with pytest.raises(DataError, match=r"--cache_dir: cannot write to .*cache \(.*;"):
        cache.read(paths, OPTIONS, folder)


def test_what_is_wrong_with_a_text_is_said_across_the_processes(paths, folder):
    paths["valid"].write_bytes(b"caf\xe9\n")
    with pytest.raises(DataError) as error:
        cache.read(paths, OPTIONS, folder)
    assert str(error.value) == (
        f"{paths['valid']} is not UTF-8 text (byte 3); convert it, for instance from "
        "Latin-1 with `iconv -f latin1 -t utf-8`."
    )
    assert entries(folder) == []


def test_a_process_that_is_killed_leaves_nothing_half_true(paths, folder, monkeypatch):
    kill = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    run = subprocess.run
    monkeypatch.setattr(
        subprocess, "run", lambda _, **kw: run([sys.executable, "-c", kill], **kw)
    )
    with pytest.raises(DataError, match=r"has ended too early \(SIGKILL\); repeat"):
        cache.read(paths, OPTIONS, folder)
    monkeypatch.undo()
    # What it leaves when it is killed at work.
    sources = {split: atomic_io.file_digest(path) for split, path in paths.items()}
    cache.read(paths, OPTIONS, folder)
    (entry,) = entries(folder)
    shutil.move(entry, folder / f"aside.123.{entry.name}")
    (folder / f"aside.123.{entry.name}" / "train.ids").write_bytes(b"half")
    cache._prepare(paths, OPTIONS, sources, entry)
    assert entries(folder) == [entry]
    assert ids_of(cache.read(paths, OPTIONS, folder)) == IDS


def test_several_at_once_prepare_once(paths, folder):
    folder.mkdir()
    sources = {split: atomic_io.file_digest(path) for split, path in paths.items()}
    texts = {split: str(path) for split, path in paths.items()}
    arguments = json.dumps([texts, OPTIONS, sources, str(folder / "entry")])
    processes = [
        subprocess.Popen([sys.executable, cache.__file__, arguments]) for _ in range(4)
    ]
    assert [process.wait() for process in processes] == [0] * 4
    assert [path.name for path in entries(folder)] == ["entry"]
    assert ids_of(corpus.load(folder / "entry")) == IDS


def test_one_waits_for_another_that_prepares_the_same(paths, folder, capsys):
    folder.mkdir()
    sources = {split: atomic_io.file_digest(path) for split, path in paths.items()}
    entry = folder / "entry"
    waits = threading.Thread(
        target=cache._prepare, args=(paths, OPTIONS, sources, entry)
    )
    with cache._locked(entry.with_suffix(".lock")):
        waits.start()
        waits.join(0.3)
        assert waits.is_alive() and not entry.exists()
    waits.join()
    assert ids_of(corpus.load(entry)) == IDS
    assert "waiting for it" in capsys.readouterr().out

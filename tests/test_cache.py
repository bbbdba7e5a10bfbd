"""The cache of corpora: prepared once, by one process, and again after a change."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time

import faults
import pytest

from dsc.cli.errors import RunError
from dsc.runs import atomic_io
from language_modeling.corpora import cache, corpus
from language_modeling.corpora.corpus import Options

TEXTS = {"train": "to be or\nnot to\n", "valid": "be or\n", "test": "to\n"}
IDS = {"train": [1, 2, 4, 0, 3, 1, 0], "valid": [2, 4, 0], "test": [1, 0]}
OPTIONS = Options()


def put(folder, **changed):
    """Writes a text in three files with an old modification time."""
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
    (tmp_path / "cache").mkdir()
    return tmp_path / "cache"


@pytest.fixture
def in_process(monkeypatch):
    """Prepares in this process what a subprocess would prepare."""
    monkeypatch.setattr(cache, "_prepare_in_subprocess", cache._prepare)


@pytest.fixture
def prepared(paths, folder, in_process):
    cache.read(paths, OPTIONS, folder)
    return folder


@pytest.fixture
def no_process(prepared, monkeypatch):
    """Fails the test if anything is prepared after `prepared`."""

    def fail(*_):
        raise AssertionError("this was prepared already")

    monkeypatch.setattr(cache, "_prepare_in_subprocess", fail)


def entries(folder):
    return sorted(path for path in folder.iterdir() if path.is_dir())


def ids_of(read):
    return {split: ids.tolist() for split, ids in read.ids.items()}


def digests_of(paths):
    return {split: atomic_io.file_digest(path) for split, path in paths.items()}


def test_a_subprocess_prepares_the_corpus(paths, folder):
    read = cache.read(paths, OPTIONS, folder)
    assert ids_of(read) == IDS
    assert read.vocabulary == ("<eos>", "to", "be", "not", "or")


def test_the_same_text_is_prepared_once(tmp_path, paths, prepared, no_process):
    assert ids_of(cache.read(paths, OPTIONS, prepared)) == IDS
    copied = put(tmp_path / "elsewhere")
    assert ids_of(cache.read(copied, OPTIONS, prepared)) == IDS


@pytest.mark.parametrize(
    "options",
    [
        *(Options("end"), Options(unknown="error"), Options(vocab_size=3)),
        Options(level="char"),
    ],
)
def test_other_options_are_another_entry(paths, prepared, options):
    read = cache.read(paths, options, prepared)
    assert len(entries(prepared)) == 2
    assert (read.digests == cache.read(paths, OPTIONS, prepared).digests) == (
        options.unknown == "error"  # there are no unknown words
    )


@pytest.mark.parametrize("split", TEXTS)
def test_another_text_is_another_entry(tmp_path, prepared, split):
    changed = put(tmp_path / "texts", **{split: "not to\n"})
    read = cache.read(changed, OPTIONS, prepared)
    assert len(entries(prepared)) == 2
    words = [read.vocabulary[i] for i in read.ids[split]]
    assert words == ["not", "to", "<eos>"]


def test_only_changed_files_are_hashed_again(paths, prepared, monkeypatch):
    hashed = []
    digest = atomic_io.file_digest
    monkeypatch.setattr(
        atomic_io,
        "file_digest",
        lambda path, *rest: hashed.append(path.name) or digest(path, *rest),
    )
    cache.read(paths, OPTIONS, prepared)
    assert all(name.startswith("corpus-") for name in hashed)
    os.utime(paths["valid"], ns=(0, 1))
    cache.read(paths, OPTIONS, prepared)
    assert hashed.count("valid.txt") == 1
    assert not {"train.txt", "test.txt", "train.ids"} & {*hashed}


def test_the_digest_of_a_file_that_may_change_within_a_tick_is_not_cached(
    paths, folder
):
    cache._digest(paths["train"], folder)
    assert len(list(folder.iterdir())) == 1
    os.utime(paths["valid"])
    cache._digest(paths["valid"], folder)
    assert len(list(folder.iterdir())) == 1


@pytest.mark.parametrize("content", [b"", b"7", b"[1", b"[]", b"{}", b"\xff"])
def test_damaged_digests_do_no_harm(paths, prepared, no_process, content):
    for path in prepared.glob("*.digest"):
        path.write_bytes(content)
    assert ids_of(cache.read(paths, OPTIONS, prepared)) == IDS


def test_a_text_that_changes_while_it_is_read_is_refused(
    paths, folder, in_process, monkeypatch
):
    prepare = corpus.prepare

    def changing(*arguments):
        prepare(*arguments)
        paths["train"].write_text("to be\n")

    monkeypatch.setattr(corpus, "prepare", changing)
    with pytest.raises(RunError, match="changed while it was read; repeat"):
        cache.read(paths, OPTIONS, folder)
    assert entries(folder) == []


@pytest.mark.parametrize("name", ["train.ids", "vocabulary.txt", "corpus-*.json"])
def test_a_damaged_entry_is_replaced_and_what_was_mapped_stays(
    paths, prepared, capsys, name
):
    before = cache.read(paths, OPTIONS, prepared)
    (path,) = next(iter(entries(prepared))).glob(name)
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[:-4] + b"\xff\xff\xff\x7f")
    assert ids_of(cache.read(paths, OPTIONS, prepared)) == ids_of(before) == IDS
    assert " is replaced: " in capsys.readouterr().out
    cache.read(paths, OPTIONS, prepared)
    assert not capsys.readouterr().out


@pytest.mark.parametrize("call", ["number", "count", "renumber"])
def test_a_full_disk_is_reported_and_leaves_nothing(
    paths, folder, in_process, monkeypatch, call
):
    monkeypatch.setattr(corpus.tokens, call, faults.full_disk)
    with pytest.raises(
        RunError, match=r"--cache_dir: cannot write to .*cache \(No space .*\); free"
    ):
        cache.read(paths, OPTIONS, folder)
    assert entries(folder) == []


def test_a_cache_that_cannot_be_a_folder_is_refused(paths, tmp_path):
    (tmp_path / "file").write_text("a file")
    with pytest.raises(RunError, match=r"--cache_dir: cannot write to .*file \(.*;"):
        cache.read(paths, OPTIONS, tmp_path / "file")


def test_the_subprocess_reports_what_is_wrong_with_a_text(paths, folder):
    paths["valid"].write_bytes(b"caf\xe9\n")
    with pytest.raises(RunError) as error:
        cache.read(paths, OPTIONS, folder)
    assert str(error.value) == (
        f"{paths['valid']} is not UTF-8 text (byte 3); convert it, for instance from "
        "Latin-1 with `iconv -f latin1 -t utf-8`."
    )
    assert entries(folder) == []


def test_a_killed_subprocess_leaves_no_damaged_entry(paths, folder, monkeypatch):
    kill = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    run = subprocess.run
    with monkeypatch.context() as patch:
        patch.setattr(
            subprocess, "run", lambda _, **kw: run([sys.executable, "-c", kill], **kw)
        )
        with pytest.raises(RunError, match=r"has failed \(it was killed\); repeat"):
            cache.read(paths, OPTIONS, folder)
    # What it leaves if it is killed at work.
    entry = folder / "entry"
    aside = folder / "aside.123.entry"
    cache._prepare(paths, OPTIONS, digests_of(paths), entry)
    shutil.move(entry, aside)
    (aside / "train.ids").write_bytes(b"half")
    cache._prepare(paths, OPTIONS, digests_of(paths), entry)
    assert entries(folder) == [entry]
    assert ids_of(corpus.load(entry)) == IDS


def test_processes_at_once_prepare_once(paths, folder):
    texts = {split: str(path) for split, path in paths.items()}
    arguments = [texts, OPTIONS, digests_of(paths), str(folder / "entry")]
    command = [sys.executable, cache.__file__, json.dumps(arguments)]
    processes = [subprocess.Popen(command) for _ in range(3)]
    assert [process.wait() for process in processes] == [0] * 3
    assert [path.name for path in entries(folder)] == ["entry"]
    assert ids_of(corpus.load(folder / "entry")) == IDS


def test_a_process_waits_for_another_that_prepares_the_same(paths, folder, capsys):
    entry = folder / "entry"
    waits = threading.Thread(
        target=cache._prepare, args=(paths, OPTIONS, digests_of(paths), entry)
    )
    with cache._locked(entry.with_suffix(".lock")):
        waits.start()
        waits.join(0.3)
        assert waits.is_alive() and not entry.exists()
    waits.join()
    assert ids_of(corpus.load(entry)) == IDS
    assert "Waiting for another process" in capsys.readouterr().out

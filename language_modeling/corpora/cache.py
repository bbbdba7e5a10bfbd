"""Prepared corpora, kept so that each is made once.

In the cache's folder lies, for each corpus and each way to read it, a folder with what
`corpus.prepare` has written, named after the digest of the texts and of the options; so
a corpus that was copied, or moved, is found again. Another text, or another option, is
another folder; nothing is ever removed, and all of it may be deleted at any time.

To hash a large text at every start would take seconds. So the digest of a file is
remembered, by its path, size, time of change and inode: one that was changed without
any of them changing, which takes intent (as `touch` has it), is taken for what it was.
The same is true of the prepared files: damage that the disk does to them, and that
changes no time, is not seen.

Preparing takes a process of its own, which does not import TensorFlow and so has the
memory for it. Where several prepare the same at once, one does and the others wait.
"""

import contextlib
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # this clone's code

from dsc.cli.progress import Progress
from dsc.runs import atomic_io
from language_modeling.corpora import corpus
from language_modeling.corpora.text import DataError

VERSION = 1  # of what `corpus.prepare` writes
# A file that was changed less than these nanoseconds ago may change again within the
# same tick of the file system's clock: its digest is not remembered.
FRESH = 2_000_000_000


def read(paths, options, folder):
    """The corpus from the cache, where it is put if it is not there.

    Args:
        paths: dict from split to path of the text.
        options: `corpus.Options`.
        folder: of the cache.

    Returns:
        `corpus.Corpus`.

    Raises:
        DataError: a text cannot be used, or the cache cannot be written.
    """
    folder = Path(folder)
    with corpus.writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        sources = {split: _digest(path, folder) for split, path in paths.items()}
    key = json.dumps([VERSION, sources, *options])
    entry = folder / atomic_io.digest(key.encode())
    try:
        return _load(entry)
    except ValueError as error:
        if entry.exists():
            print(f"The prepared corpus in {entry} is made again: {error}.")
    _prepare_in_a_process(paths, options, sources, entry)
    try:
        return _load(entry)
    except ValueError as error:
        raise DataError(
            f"--cache_dir: what was written to {entry} cannot be read again ({error}); "
            "give another folder."
        ) from None


def _prepare_in_a_process(paths, options, sources, entry):
    paths = {split: str(path) for split, path in paths.items()}
    arguments = json.dumps([paths, options, sources, str(entry)])
    sys.stdout.flush()
    process = subprocess.run(
        [sys.executable, __file__, arguments],
        stderr=subprocess.PIPE,
        text=True,
        errors="backslashreplace",
    )
    if process.returncode == os.EX_DATAERR:
        raise DataError(process.stderr.strip())
    if process.returncode:
        reason = f"exit code {process.returncode}"
        if process.returncode < 0:
            reason = signal.Signals(-process.returncode).name
        elif process.stderr.strip():
            reason = process.stderr.strip().splitlines()[-1]
        raise DataError(
            f"The process that prepares the corpus has ended too early ({reason}); "
            "repeat the command, on a machine with more memory if that was short."
        )


def _prepare(paths, options, sources, entry):
    """What that process does."""
    folder = entry.parent
    with corpus.writing(folder), _locked(entry.with_suffix(".lock")):
        with contextlib.suppress(ValueError):
            _load(entry)
            return  # another process has done it
        for leftover in folder.glob(f"aside.*.{entry.name}"):  # of a killed one
            shutil.rmtree(leftover)
        if entry.exists():
            shutil.rmtree(entry)

        def fill(aside):
            corpus.prepare(paths, options, aside)
            if sources != {s: _digest(path, folder) for s, path in paths.items()}:
                raise DataError(
                    "--data_dir: a text has changed while it was read; repeat the "
                    "command."
                )

        atomic_io.write_folder(entry, fill)


def _load(entry):
    # What is there was written in one piece: it is not about to change.
    digest_of = functools.partial(_digest, folder=entry.parent, settled_after=0)
    return corpus.load(entry, digest_of)


def _digest(path, folder, settled_after=FRESH):
    """A file's digest, remembered if it has not changed since it was computed."""
    record = folder / f"{atomic_io.digest(os.fsencode(path.resolve()))}.digest"
    try:
        stamp = _stamp(path)
        with contextlib.suppress(OSError, ValueError, TypeError):
            *known, digest = json.loads(record.read_bytes())
            if known == stamp:
                return str(digest)
        size, changed, _ = stamp
        is_settled = time.time_ns() - changed >= settled_after
        with Progress(f"Checking {path.name}", size) as progress:
            digest = atomic_io.file_digest(path, progress.add)
        is_settled = is_settled and _stamp(path) == stamp
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from None
    if is_settled:
        with contextlib.suppress(OSError):  # the next start is slower, nothing else
            atomic_io.write(record, json.dumps([*stamp, digest]).encode())
    return digest


def _stamp(path):
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ino]


def _locked(path):
    """Keeps other processes out until the file that it returns is closed."""
    try:
        return atomic_io.lock(path)
    except BlockingIOError:
        print("Another process prepares this corpus; waiting for it.", flush=True)
        return atomic_io.lock(path, wait=True)


def main():
    """Prepares what the command line says; ends with `EX_DATAERR` and a sentence."""
    if sys.stdout is None:  # closed by the shell
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    paths, options, sources, entry = json.loads(sys.argv[1])
    paths = {split: Path(path) for split, path in paths.items()}
    try:
        _prepare(paths, corpus.Options(*options), sources, Path(entry))
    except DataError as error:
        print(error, file=sys.stderr)
        sys.exit(os.EX_DATAERR)


if __name__ == "__main__":
    main()

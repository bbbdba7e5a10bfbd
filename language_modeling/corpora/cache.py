"""A cache of prepared corpora, so that the ids of each are computed once.

Each corpus has a folder with the output of `corpus.prepare`, named after the digest of
the texts and of the options. A corpus that was copied or moved is therefore found
again. Nothing is ever removed; the cache may be deleted at any time.

Hashing a large text at every start would take seconds, so the digest of a file is
cached by its path, size, modification time and inode. A change that keeps all of them
(`touch` can do it, and so can a failing disk) is not noticed.

A corpus is prepared in a separate process, which does not import TensorFlow and so
needs less memory. If several processes need the same corpus, one prepares it and the
others wait.
"""

import contextlib
import functools
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # this clone's code

from dsc.cli.errors import RunError, writing
from dsc.cli.progress import Progress
from dsc.runs import atomic_io
from language_modeling.corpora import corpus

VERSION = 1  # of the files that `corpus.prepare` writes
# A file that was changed less than these nanoseconds ago may change again within the
# same tick of the file system's clock: its digest is not cached.
FRESH = 2_000_000_000


def read(paths, options, folder):
    """Loads a `corpus.Corpus` from the cache, after preparing it if necessary.

    Args:
        paths: dict from split to path of the text.
        options: `corpus.Options`.
        folder: of the cache.

    Raises:
        RunError: a text cannot be used, or the cache cannot be written.
    """
    folder = Path(folder)
    with writing(folder, "--cache_dir"):
        folder.mkdir(parents=True, exist_ok=True)
        sources = {split: _digest(path, folder) for split, path in paths.items()}
    key = json.dumps([VERSION, sources, *options])
    entry = folder / atomic_io.digest(key.encode())
    try:
        return _load(entry)
    except ValueError as error:
        if entry.exists():
            print(f"The prepared corpus in {entry} is replaced: {error}.")
    _prepare_in_subprocess(paths, options, sources, entry)
    try:
        return _load(entry)
    except ValueError as error:
        raise RunError(
            f"--cache_dir: what was written to {entry} cannot be read ({error}); give "
            "another folder."
        ) from None


def _prepare_in_subprocess(paths, options, sources, entry):
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
        raise RunError(process.stderr.strip())
    if process.returncode:
        reason, *_ = reversed(process.stderr.splitlines() or ["it was killed"])
        raise RunError(
            f"The process that prepares the corpus has failed ({reason}); repeat the "
            "command, on a machine with more memory if that ran out."
        )


def _prepare(paths, options, sources, entry):
    """What the subprocess does."""
    folder = entry.parent
    with writing(folder, "--cache_dir"), _locked(entry.with_suffix(".lock")):
        with contextlib.suppress(ValueError):
            _load(entry)
            return  # another process has prepared it
        for leftover in folder.glob(f"aside.*.{entry.name}"):  # of a killed one
            shutil.rmtree(leftover)
        if entry.exists():
            shutil.rmtree(entry)

        def fill(aside):
            corpus.prepare(paths, options, aside)
            if sources != {s: _digest(path, folder) for s, path in paths.items()}:
                raise RunError(
                    "--data_dir: a text changed while it was read; repeat the command."
                )

        atomic_io.write_folder(entry, fill)


def _load(entry):
    # The folder was written atomically: its files do not change any more.
    digest_of = functools.partial(_digest, folder=entry.parent, settled_after=0)
    return corpus.load(entry, digest_of)


def _digest(path, folder, settled_after=FRESH):
    """A file's digest, from the cache if the file has not changed."""
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
        raise RunError(f"{path} cannot be read: {error.strerror}.") from None
    if is_settled:
        with contextlib.suppress(OSError):  # only makes the next start slower
            atomic_io.write(record, json.dumps([*stamp, digest]).encode())
    return digest


def _stamp(path):
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ino]


def _locked(path):
    """Takes the lock, waiting for other processes; returns the open file."""
    try:
        return atomic_io.lock(path)
    except BlockingIOError:
        print("Waiting for another process to prepare this corpus.", flush=True)
        return atomic_io.lock(path, wait=True)


def main():
    """Prepares the corpus of the command line; exits with EX_DATAERR on errors."""
    if sys.stdout is None:  # closed by the shell
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    paths, options, sources, entry = json.loads(sys.argv[1])
    paths = {split: Path(path) for split, path in paths.items()}
    try:
        _prepare(paths, corpus.Options(*options), sources, Path(entry))
    except RunError as error:
        print(error, file=sys.stderr)
        sys.exit(os.EX_DATAERR)


if __name__ == "__main__":
    main()

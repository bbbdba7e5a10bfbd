"""Atomic, checksummed file writes, and reading .npz files safely.

A checksum is the first `DIGEST` hexadecimal digits of a SHA-256.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import warnings
from pathlib import Path

import numpy as np

DIGEST = 16


def write(path, content, digest=False):
    """Writes a file atomically and flushes it to the disk.

    If it fails, `path` stays as it was and no temporary file is left.

    Args:
        path: file to write, in a folder that exists.
        content: bytes, or a function that writes the file to the path it is given.
        digest: whether to put the checksum into the name: `name-<digest>.suffix`.

    Returns:
        The path of the file.

    Raises:
        OSError: the file cannot be written.
    """
    path = Path(path)
    tmp = path.with_name(f"aside.{os.getpid()}.{path.name}")
    try:
        if callable(content):
            content(tmp)
        else:
            tmp.write_bytes(content)
        _sync_folder(tmp) if tmp.is_dir() else _sync(tmp)
        if digest:
            stem, dot, suffixes = path.name.partition(".")
            path = path.with_name(f"{stem}-{file_digest(tmp)}{dot}{suffixes}")
        os.replace(tmp, path)
        _sync_folder(path.parent)
    finally:
        with contextlib.suppress(OSError):
            shutil.rmtree(tmp) if tmp.is_dir() else tmp.unlink(missing_ok=True)
    return path


def write_folder(path, fill):
    """Writes a new folder atomically and flushes it to the disk; see `write`.

    Args:
        path: folder to write, which does not exist.
        fill: function that writes the files into the folder that it is given.

    Raises:
        OSError: something cannot be written.
    """

    def make(tmp):
        tmp.mkdir()
        fill(tmp)
        for file in tmp.iterdir():
            _sync(file)

    write(path, make)


def to_json(value, **layout):
    """`json.dumps` with null for infinities and NaN, which JSON does not have."""
    value = json.loads(json.dumps(value), parse_constant=lambda name: None)
    return json.dumps(value, allow_nan=False, **layout)


def write_json(path, value):
    """Writes a JSON file that people read; see `write` and `to_json`."""
    write(path, f"{to_json(value, indent=2)}\n".encode())


def lock(path, wait=False):
    """Locks a file until it is closed or this process ends.

    Args:
        path: file, created if necessary, in a folder that exists.
        wait: whether to wait while another process holds the lock.

    Returns:
        The open file.

    Raises:
        BlockingIOError: another process holds the lock.
        OSError: the file cannot be opened or locked.
    """
    file = open(path, "ab")  # noqa: SIM115
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        file.close()
        raise
    return file


def is_intact(path):
    """Whether a file has the checksum that is in its name."""
    try:
        return path.name.partition(".")[0].endswith(f"-{file_digest(path)}")
    except OSError:
        return False


def file_digest(path, on_read=lambda n_bytes: None):
    """The checksum of a file; `on_read` gets the number of bytes of each read."""
    sha256 = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            sha256.update(block)
            on_read(len(block))
    return sha256.hexdigest()[:DIGEST]


def digest(*contents):
    """The checksum of bytes or arrays, in that order."""
    sha256 = hashlib.sha256()
    for content in contents:
        sha256.update(np.ascontiguousarray(content) if np.ndim(content) else content)
    return sha256.hexdigest()[:DIGEST]


def read_arrays(path):
    """Reads a .npz file without running code from it.

    Returns:
        Dict from name to array.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged or holds objects; the message says which.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # for headers that Python 2 wrote
            with np.load(path, allow_pickle=False) as arrays:
                found = {name: arrays[name] for name in arrays.files}
        if not all(isinstance(array, np.ndarray) for array in found.values()):
            raise ValueError("it has members that are no arrays")
        return found
    except FileNotFoundError:
        raise
    except Exception as error:  # zipfile and NumPy raise many kinds for damaged files
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(reason) from None


def _sync_folder(path):
    try:
        _sync(path)
    except OSError as error:
        # Some file systems cannot flush a folder.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise


def _sync(path):
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

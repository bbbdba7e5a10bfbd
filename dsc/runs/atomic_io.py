"""Whole files only: no crash, full disk or flipped bit makes one half true."""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import warnings
import zipfile
from pathlib import Path

import numpy as np

DIGEST = 16  # hexadecimal digits of the sha256 that stand in a file's name
# What arrays may take in memory beside their file: random digits shrink to less than
# half, so more than this is a file that was made to exhaust the memory.
MAX_EXPANSION = 20
FREE_BYTES = 1 << 24


def write(path, content, digest=False):
    """Writes a file, whole or not at all.

    The bytes are on the disk before the rename, and the rename before this returns, as
    far as the file system can tell. If anything goes wrong before the rename, `path`
    stays as it was and nothing is left aside.

    Args:
        path: file to write; its folder must be there.
        content: bytes, or a function that writes the file to the path it is given.
        digest: whether the name gets the content's digest, `name-<digest>.suffix`:
            then checksum and file appear in one rename.

    Returns:
        The path of what was written.

    Raises:
        OSError: the file cannot be written.
    """
    path = Path(path)
    aside = path.with_name(f"aside.{os.getpid()}.{path.name}")
    try:
        if callable(content):
            content(aside)
        else:
            aside.write_bytes(content)
        _sync(aside)
        if digest:
            stem, dot, suffixes = path.name.partition(".")
            path = path.with_name(f"{stem}-{file_digest(aside)}{dot}{suffixes}")
        os.replace(aside, path)
        _sync_folder(path.parent)
    finally:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)
    return path


def to_json(value, **layout):
    """`json.dumps`, with null for infinities and NaN, which JSON does not have."""
    value = json.loads(json.dumps(value), parse_constant=lambda name: None)
    return json.dumps(value, allow_nan=False, **layout)


def write_folder(path, fill):
    """Writes a folder that is not there yet, whole or not at all; see `write`.

    Args:
        path: the folder.
        fill: function that writes the files into the folder that it is given.

    Raises:
        OSError: something cannot be written.
    """
    aside = path.with_name(f"aside.{os.getpid()}.{path.name}")
    try:
        aside.mkdir()
        fill(aside)
        for file in aside.iterdir():
            _sync(file)
        _sync_folder(aside)
        os.rename(aside, path)
        _sync_folder(path.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def lock(path, wait=False):
    """Keeps other processes out until the file is closed, or this process has ended.

    Args:
        path: file to lock; made if it is not there, its folder must be.
        wait: whether to wait for another process that holds it.

    Returns:
        The open file.

    Raises:
        BlockingIOError: another process holds it.
        OSError: it cannot be opened.
    """
    file = open(path, "ab")  # noqa: SIM115
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        file.close()
        raise
    return file


def is_intact(path):
    """Whether a file's content has the digest that its name tells."""
    try:
        return path.name.partition(".")[0].endswith(f"-{file_digest(path)}")
    except OSError:
        return False


def file_digest(path, on_read=lambda n_bytes: None):
    """The digest of a file's bytes, `DIGEST` hexadecimal digits.

    Args:
        path: the file.
        on_read: called with the number of bytes that were read, some at a time.
    """
    sha256 = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            sha256.update(block)
            on_read(len(block))
    return sha256.hexdigest()[:DIGEST]


def digest(*contents):
    """The digest of bytes or arrays, in that order."""
    sha256 = hashlib.sha256()
    for content in contents:
        sha256.update(np.ascontiguousarray(content) if np.ndim(content) else content)
    return sha256.hexdigest()[:DIGEST]


def read_arrays(path):
    """Reads a .npz file that may be hostile, without running code from it.

    Args:
        path: file, written by `numpy.savez` or `numpy.savez_compressed`.

    Returns:
        Dict from name to array.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, holds objects, or claims arrays of more memory
            than such a file can hold; the message says which.
    """
    try:
        with warnings.catch_warnings(), open(path, "rb") as file:
            warnings.simplefilter("error")  # of headers that only Python 2 wrote
            _check_headers(file, os.fstat(file.fileno()).st_size)
            file.seek(0)
            with np.load(file, allow_pickle=False) as arrays:
                return {name: arrays[name] for name in arrays.files}
    except FileNotFoundError:
        raise
    except Exception as error:  # zipfile and NumPy raise many kinds for damaged files
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(reason) from None


def _check_headers(file, size):
    claimed = 0
    with zipfile.ZipFile(file) as members:
        for name in members.namelist():
            with members.open(name) as member:
                version = np.lib.format.read_magic(member)
                if version == (1, 0):
                    header = np.lib.format.read_array_header_1_0(member)
                else:
                    header = np.lib.format.read_array_header_2_0(member)
            shape, _, dtype = header
            if dtype.hasobject:
                raise ValueError(f"{name} holds objects, not numbers")
            if min(shape, default=0) < 0:
                raise ValueError(f"{name} has a negative size")
            claimed += int(np.prod(shape, dtype=object)) * max(dtype.itemsize, 1)
    if claimed > MAX_EXPANSION * size + FREE_BYTES:
        raise ValueError(f"{size:,} bytes claim to hold {claimed:,} bytes of arrays")


def _sync_folder(path):
    try:
        _sync(path)
    except OSError as error:
        # Some file systems keep no folder on request: what they can do is done.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise


def _sync(path):
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

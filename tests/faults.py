"""Makes writes fail."""

import builtins
import contextlib
import errno
import io
import os

import h5py

FULL = OSError(errno.ENOSPC, "No space left on device")


class Killed(BaseException):
    """Stands for SIGKILL."""


def full_disk(*_):
    raise FULL


@contextlib.contextmanager
def at_write(monkeypatch, n, error):
    """Lets `n` writes succeed (None: all) and the later ones raise an error.

    A write is: opening a file for writing (which then holds half a line), a flush to
    the disk, a rename, a removal, an HDF5 file. Yields a list with one entry per write.
    """
    attempts = []

    def attempt():
        attempts.append(None)
        if n is not None and len(attempts) > n:
            raise error

    real_open, real_h5 = builtins.open, h5py.File

    def open_or_fail(file, mode="r", *args, **kwargs):
        if set(mode) & set("wax+"):
            try:
                attempt()
            except BaseException:
                with real_open(file, "ab") as half:
                    half.write(b'{"half')
                raise
        return real_open(file, mode, *args, **kwargs)

    class File(real_h5):
        def __init__(self, name, mode="r", *args, **kwargs):
            if mode != "r":
                attempt()
            super().__init__(name, mode, *args, **kwargs)

    def failing(function):
        def call(*args, **kwargs):
            attempt()
            return function(*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(builtins, "open", open_or_fail)
        patch.setattr(io, "open", open_or_fail)
        patch.setattr(h5py, "File", File)
        for name in ("fsync", "replace", "unlink"):
            patch.setattr(os, name, failing(getattr(os, name)))
        yield attempts

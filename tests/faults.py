"""Accidents at a chosen moment of writing."""

import builtins
import contextlib
import io
import os

import h5py


class Killed(BaseException):
    """Ends everything that runs, as SIGKILL does."""


@contextlib.contextmanager
def at_write(monkeypatch, n, error):
    """Lets the n-th attempt to change a file fail half way, and those after it too.

    Attempts are: opening a file for writing (it then holds half a line), a flush to the
    disk, a rename, a removal, an HDF5 file.

    Args:
        monkeypatch: pytest's.
        n: number of attempts that succeed, or None for all.
        error: the exception.

    Yields:
        A list; its length is the number of attempts so far.
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

"""Errors that the user can correct, reported in one sentence without a traceback."""

import contextlib
import errno
import os

# What to do about an error, before "give another folder".
_REMEDIES = {
    errno.EBUSY: "{file} is a mount point: unmount it or",
    errno.EEXIST: "a file is in the way: move it or",
    errno.ENOTDIR: "a file is in the way: move it or",
    errno.ENOLCK: "its file system does not support locks:",
    errno.ENOSYS: "its file system does not support locks:",
    errno.ENOTSUP: "its file system does not support locks:",
}


class RunError(ValueError):
    """The user has to change something; the message says what."""


@contextlib.contextmanager
def writing(path, flag="--train_dir", *also):
    """Turns a failure to write below `path`, which `flag` names, into a `RunError`."""
    try:
        yield
    except (OSError, RuntimeError, *also) as error:  # h5py raises both for a full disk
        raise RunError(cannot_write(path, flag, error)) from None


def cannot_write(path, flag, error):
    """The message for a failure to write below `path`, which `flag` names."""
    reason = one_line(error)
    file = getattr(error, "filename2", None) or getattr(error, "filename", None) or path
    remedy = _REMEDIES.get(getattr(error, "errno", None), "free space or")
    if os.path.islink(file) and not os.path.exists(file):
        reason = f"{file} is a link to {os.readlink(file)}, which does not exist"
        remedy = "create that or"
    remedy = remedy.format(file=file)
    return f"{flag}: cannot write to {path} ({reason}); {remedy} give another folder."


def one_line(error):
    """The message of an exception, or a text, without line breaks."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())

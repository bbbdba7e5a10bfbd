"""What a user can put right: said in one sentence, without a traceback."""

import contextlib
import errno
import os

# What to do about an error other than a full disk, before "give another folder".
_REMEDIES = {
    errno.EBUSY: "{file} is a mount point: unmount it or",
    errno.EEXIST: "a file is in the way: move it or",
    errno.ENOTDIR: "a file is in the way: move it or",
    errno.ENOLCK: "its file system does not support locks:",
    errno.ENOSYS: "its file system does not support locks:",
    errno.ENOTSUP: "its file system does not support locks:",
}


class RunError(ValueError):
    """A run cannot go on, or its folder cannot be used; says why and what to do."""


@contextlib.contextmanager
def writing(path, flag="--train_dir", *also):
    """Turns a failure to write below `path`, which `flag` names, into a `RunError`."""
    try:
        yield
    except (OSError, RuntimeError, *also) as error:  # h5py raises both for a full disk
        raise RunError(cannot_write(path, flag, error)) from None


def cannot_write(path, flag, error):
    """The sentence for an error in writing below `path`, which `flag` names."""
    reason = one_line(error)
    file = getattr(error, "filename2", None) or getattr(error, "filename", None) or path
    remedy = _REMEDIES.get(getattr(error, "errno", None), "free space or")
    if os.path.islink(file) and not os.path.exists(file):
        reason = f"{file} is a link to {os.readlink(file)}, which does not exist"
        remedy = "create that or"
    remedy = remedy.format(file=file)
    return f"{flag}: cannot write to {path} ({reason}); {remedy} give another folder."


def one_line(error):
    """What an exception or a text says, without line breaks."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())

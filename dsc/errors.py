"""What a user can put right: said in one sentence, without a traceback."""

import contextlib


class RunError(ValueError):
    """A run cannot go on, or its folder cannot be used; says why and what to do."""


@contextlib.contextmanager
def writing(path, flag="--train_dir"):
    """Turns a failure to write below `path`, which `flag` names, into a `RunError`."""
    try:
        yield
    except (OSError, RuntimeError) as error:  # h5py raises both for a full disk
        raise RunError(
            f"{flag}: cannot write to {path} ({one_line(error)}); free space or "
            "give another folder."
        ) from None


def one_line(error):
    """What an exception or a text says, without line breaks."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())

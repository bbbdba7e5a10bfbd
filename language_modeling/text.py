"""A text as a stream of words, however long it is."""

import contextlib
import sys

from language_modeling.reader import DataError

BLOCK = 1 << 16  # characters read at once


@contextlib.contextmanager
def opened(path):
    """Opens a text in UTF-8.

    Args:
        path: file, or `-` for the standard input.

    Raises:
        DataError: it cannot be opened, or later: it cannot be read or is no text.
    """
    name = "The standard input" if path == "-" else str(path)
    try:
        source = sys.stdin.fileno() if path == "-" else path
        with open(source, encoding="utf-8-sig", closefd=path != "-") as text:
            yield text
    except UnicodeDecodeError:
        raise DataError(
            f"{name} is not UTF-8 text; convert it, for instance with `iconv -t utf-8`."
        ) from None
    except (OSError, AttributeError) as error:  # no fileno: closed by the shell
        raise DataError(f"{name} cannot be read: {error}.") from None


def words(text, eos):
    """Yields the words of a text, and `eos` for every end of a line.

    The same words as `reader.read` has.

    Args:
        text: file, open for reading text.
        eos: the word that stands for the end of a line.

    Raises:
        DataError: there is a NUL in the text.
    """
    rest = ""
    while block := text.read(BLOCK):
        if "\0" in block:
            raise DataError("The text has a NUL byte, so it is no text or is damaged.")
        block = rest + block
        found = block.replace("\n", f" {eos} ").split()
        # A word that the block's end cuts is read on.
        rest = "" if block[-1].isspace() else found.pop()
        yield from found
    if rest:
        yield rest

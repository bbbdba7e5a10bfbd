"""Splits text files into words, block by block."""

import codecs
import io
import itertools
import sys

BLOCK = 1 << 17  # bytes; words of larger blocks do not fit a processor's cache
LONGEST = 1_000_000  # characters of a word


class DataError(ValueError):
    """The data cannot be used; the message says why and what to do."""


def words(path, eos):
    """Yields the words of a file, or of the standard input for `-`."""
    name = "The standard input" if path == "-" else path
    for some in split_words(read_blocks(path), name, eos):
        yield from some


def read_blocks(path):
    """Yields the blocks of a file, or of the standard input for `-`, as bytes."""
    try:
        source = sys.stdin.fileno() if path == "-" else path
        with open(source, "rb", closefd=path != "-") as file:
            while block := file.read(BLOCK):
                yield block
    except (OSError, AttributeError) as error:  # no fileno: closed by the shell
        name = "The standard input" if path == "-" else path
        reason = getattr(error, "strerror", None) or "it is closed"
        raise DataError(f"{name} cannot be read: {reason}.") from None


def split_words(blocks, path, eos):
    """Yields the words of a text, one list per block.

    Words are separated by blanks as in `str.split`. Lines may end in LF, CRLF or CR,
    and blank lines have an end too. A byte order mark at the start is skipped. Block
    boundaries do not matter.

    Args:
        blocks: iterable of bytes, the text in UTF-8.
        path: the text's name, for error messages.
        eos: the word that stands for the end of a line.

    Raises:
        DataError: the text cannot be read, is not UTF-8, or has a NUL byte, a word of
            more than `LONGEST` characters, or no words.
    """
    decoder = io.IncrementalNewlineDecoder(
        codecs.getincrementaldecoder("utf-8-sig")(), translate=True
    )
    n_bytes = n_lines = n_words = 0
    rest = ""  # of a word that may continue in the next block
    for block in itertools.chain(blocks, [b""]):
        n_bytes += len(block)
        try:
            text = decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            place = n_bytes - len(error.object) + error.start
            raise DataError(
                f"{path} is not UTF-8 text (byte {place}); convert it, for instance "
                "from Latin-1 with `iconv -f latin1 -t utf-8`."
            ) from None
        if (place := text.find("\0")) >= 0:
            line = n_lines + text.count("\n", 0, place) + 1
            raise DataError(
                f"{path} has a NUL byte in line {line}, so it is not text or is "
                "damaged; replace it by an intact copy."
            )
        n_lines += text.count("\n")
        text = rest + text.replace("\n", f" {eos} ")
        words = text.split()
        rest = words.pop() if words and not text[-1].isspace() else ""
        if len(rest) > LONGEST:
            raise DataError(
                f"{path} has a word of more than {LONGEST:,} characters in line "
                f"{n_lines + 1}; separate the words by blanks."
            )
        n_words += len(words)
        yield words
    if rest:
        yield [rest]
    elif not n_words:
        raise DataError(f"{path} has no words in it; write text into it, line by line.")

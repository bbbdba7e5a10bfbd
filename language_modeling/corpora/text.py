"""Splits text files into words or characters, block by block."""

import codecs
import io
import itertools
import re
import sys
from pathlib import Path

from dsc.cli.errors import RunError

BLOCK = 1 << 17  # bytes; words of larger blocks do not fit a processor's cache
LONGEST = 1_000_000  # characters of a word
END = "\0"  # stands for the end of a line where any other text may be a word
# A blank and `_` as tokens of a character-level corpus, as in the release's files.
SPELLED = {" ": "_", "_": "__"}
UNSPELLED = {token: character for character, token in SPELLED.items()}
# Letters of scripts without blanks between words: Thai, Lao, Tibetan, Burmese, Khmer,
# Chinese and Japanese.
UNSPACED = re.compile("[\u0e00-\u109f\u1780-\u17ff\u2e80-\u9fff\U00020000-\U0003ffff]")
LONG = 8  # of these letters in a word on average: the words are not separated


def words(path, eos, level="word"):
    """Yields the tokens of a file, or of the standard input for `-`; see `splitter`."""
    name = "The standard input" if path == "-" else path
    for some in splitter(path, level)(read_blocks(path), name, eos):
        yield from some


def splitter(path, level):
    """`split_characters` if `level` is `char`, otherwise `split_words`.

    A file `ptb.char.*` is spelled out: its words are characters already.
    """
    return SPLITTERS["word" if is_spelled_out(path) else level]


def is_spelled_out(path):
    """Whether a file has the name of the release's character-level files."""
    return Path(path).name.startswith("ptb.char.")


def spell(line):
    """The tokens of a line's characters, a list.

    Blanks count as in `str.split`: one between two words, none elsewhere. A blank is
    the token `_`, and `_` is `__`; `unspell` turns a token back into text.
    """
    return [SPELLED.get(c, c) for c in " ".join(line.split())]


def unspell(token):
    """The text of a token of `spell`."""
    return UNSPELLED.get(token, token)


def lacks_blanks(path):
    """Whether the beginning of a text has a script without blanks between words."""
    block = next(read_blocks(path), b"").decode(errors="ignore")
    found = [len(UNSPACED.findall(word)) for word in block.split()]
    n_letters, n_words = sum(found), sum(map(bool, found))
    return 2 * n_letters > sum(map(len, block.split())) and n_letters > LONG * n_words


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
        raise RunError(f"{name} cannot be read: {reason}.") from None


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
        RunError: the text cannot be read, is not UTF-8, or has a NUL byte, a word of
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
            raise RunError(
                f"{path} is not UTF-8 text (byte {place}); convert it, for instance "
                "from Latin-1 with `iconv -f latin1 -t utf-8`."
            ) from None
        if (place := text.find("\0")) >= 0:
            line = n_lines + text.count("\n", 0, place) + 1
            raise RunError(
                f"{path} has a NUL byte in line {line}, so it is not text or is "
                "damaged; replace it by an intact copy."
            )
        n_lines += text.count("\n")
        text = rest + text.replace("\n", f" {eos} ")
        words = text.split()
        rest = words.pop() if words and not text[-1].isspace() else ""
        if len(rest) > LONGEST:
            raise RunError(
                f"{path} has a word of more than {LONGEST:,} characters in line "
                f"{n_lines + 1}; separate it by blanks or into lines."
            )
        n_words += len(words)
        yield words
    if rest:
        yield [rest]
    elif not n_words:
        raise RunError(f"{path} has no words in it; write text into it, line by line.")


def split_characters(blocks, path, eos):
    """Yields the characters of a text as tokens; see `spell` and `split_words`."""
    tokens = {**SPELLED, END: eos}
    joint = ""
    for words in split_words(blocks, path, END):
        if words:
            text = joint + " ".join(words)
            text = text.replace(f" {END}", END).replace(f"{END} ", END)
            joint = "" if words[-1] == END else " "
            yield [tokens.get(c, c) for c in text]


SPLITTERS = {"word": split_words, "char": split_characters}

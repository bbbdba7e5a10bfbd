"""A corpus as word ids on disk: made in bounded memory, read by mapping the files.

In its folder lie `train.ids`, `valid.ids` and `test.ids`, int32 `[words]`, little
endian; `vocabulary.txt`, one word a line; and `corpus-<digest>.json`, which has the
digests of the other files.
"""

import contextlib
import json
import shutil
from typing import NamedTuple

import numpy as np

from dsc.cli.errors import cannot_write, one_line
from dsc.cli.progress import Progress
from dsc.runs import atomic_io
from language_modeling.corpora import text
from language_modeling.corpora import vocabulary as tokens
from language_modeling.corpora.text import DataError
from language_modeling.corpora.vocabulary import UNK

SPLITS = ("train", "valid", "test")
UNKNOWN = ("drop", "unk", "error")
VOCABULARY = "vocabulary.txt"


class Corpus(NamedTuple):
    """A text in three splits.

    Attributes:
        vocabulary: tuple of words; a word's id is its place. By falling count in the
            training file, ties in alphabetical order.
        ids: dict from split to int32 `[words]`.
        n_unknown: dict from split to the number of words that the vocabulary does not
            have (the release drops them silently).
        digests: dict from split to the digest of its words and their ids.
    """

    vocabulary: tuple
    ids: dict
    n_unknown: dict
    digests: dict


class Options(NamedTuple):
    """What becomes of a text's words; see `reader.read`."""

    eos: str = "<eos>"
    unknown: str = "drop"
    vocab_size: int | None = None

    def check(self):
        """Raises a `DataError` if the options make no sense."""
        if len(self.eos.split()) != 1 or not self.eos.isprintable():
            raise DataError(f"--EOS must be one word without blanks, not {self.eos!r}.")
        if self.vocab_size is not None and self.unknown == "error":
            raise DataError(
                "--unknown error: with --vocab_size every word that is not in the "
                f"vocabulary is read as {UNK}; leave one of the two out."
            )


def prepare(paths, options, folder):
    """Writes a corpus into an empty folder.

    Args:
        paths: dict from split to path of the text.
        options: `Options`.
        folder: `Path`.

    Raises:
        DataError: a text cannot be used, or the vocabulary is too large.
        OSError: the folder cannot be written.
    """
    runs = {}
    # The shortest comes first: what is wrong with it is then known soon.
    for split in sorted(paths, key=lambda split: _size(paths[split])):
        runs[split] = _number(paths[split], options.eos, folder / f"{split}.ids")
    try:
        vocabulary = _choose(runs["train"], options)
    except tokens.TooLarge:
        raise DataError(
            f"{paths['train']} has more distinct words than fit into "
            f"{tokens.MEMORY // 10**6} MB of memory; give --vocab_size, or a smaller "
            "one."
        ) from None
    index = {word: i for i, word in enumerate(vocabulary)}
    if options.unknown == "unk" and UNK not in index:
        raise DataError(
            f"--unknown unk: {paths['train']} has no word {UNK}; leave the flag out."
        )
    reads_unk = options.unknown == "unk" or options.vocab_size is not None
    n_unknown = {}
    n_words = sum(run.stop - run.start for split in runs for run in runs[split])
    with Progress("Giving ids to the words", n_words) as progress:
        for split in paths:
            n_unknown[split], first = tokens.renumber(
                folder / f"{split}.ids",
                runs[split],
                index,
                index[UNK] if reads_unk else None,
                progress,
            )
            if options.unknown == "error" and n_unknown[split]:
                raise DataError(
                    f"--unknown error: {paths[split]} has {n_unknown[split]} words "
                    f"that the training file does not have, {first!r} first; put them "
                    "into the training file, or give --unknown drop or unk."
                )
    shutil.rmtree(folder / tokens.RUNS)
    (folder / VOCABULARY).write_bytes("".join(f"{w}\n" for w in vocabulary).encode())
    digests = {path.name: atomic_io.file_digest(path) for path in folder.iterdir()}
    content = json.dumps({"digests": digests, "n_unknown": n_unknown})
    atomic_io.write(folder / "corpus.json", content.encode(), digest=True)


def load(folder, digest_of=atomic_io.file_digest):
    """Maps a corpus that `prepare` has written; its ids are read when they are used.

    Args:
        folder: `Path`.
        digest_of: function from a path to the digest of the file.

    Returns:
        `Corpus`.

    Raises:
        ValueError: the folder is damaged, or not there.
    """
    try:
        found = list(folder.glob("corpus-*.json"))
        if len(found) != 1 or not atomic_io.is_intact(found[0]):
            raise ValueError("corpus-*.json is damaged")
        content = json.loads(found[0].read_bytes())
        digests, n_unknown = content["digests"], content["n_unknown"]
        for name in (VOCABULARY, *(f"{split}.ids" for split in SPLITS)):
            if digest_of(folder / name) != digests[name]:
                raise ValueError(f"{name} is damaged")
        words = (folder / VOCABULARY).read_bytes().decode()
        return Corpus(
            tuple(words.split("\n")[:-1]),
            {split: _map(folder / f"{split}.ids") for split in SPLITS},
            {split: n_unknown[split] for split in SPLITS},
            {
                split: atomic_io.digest(
                    digests[VOCABULARY].encode(), digests[f"{split}.ids"].encode()
                )
                for split in SPLITS
            },
        )
    except (OSError, LookupError, TypeError, RecursionError) as error:
        raise ValueError(one_line(error)) from None


@contextlib.contextmanager
def writing(folder):
    """Turns a failure to write below a folder into a `DataError`."""
    try:
        yield
    except OSError as error:
        raise DataError(cannot_write(folder, "--cache_dir", error)) from None


def _size(path):
    return path.stat().st_size if path.is_file() else 0


def _number(path, eos, place):
    """Numbers the words of a text; returns its runs."""

    def blocks():
        for block in text.read_blocks(path):
            progress.add(len(block))
            yield block

    with Progress(f"Reading {path.name}", _size(path)) as progress:
        return tokens.number(text.split_words(blocks(), path, eos), place)


def _choose(runs, options):
    """The vocabulary of a text that was numbered."""

    def counted():
        for word, count in tokens.count(runs):
            progress.add(count)
            yield word, count

    with Progress("Choosing the vocabulary", runs[-1].stop) as progress:
        return tokens.choose_vocabulary(counted(), options.eos, options.vocab_size)


def _map(path):
    if not path.stat().st_size:  # no file of no bytes can be mapped
        return np.zeros(0, tokens.IDS)
    return np.asarray(np.memmap(path, tokens.IDS, "r"))

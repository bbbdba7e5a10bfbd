"""A corpus as word ids on disk: written in bounded memory, read by memory-mapping.

Its folder holds `train.ids`, `valid.ids` and `test.ids`, little-endian int32 `[words]`;
`vocabulary.txt`, one word per line; and `corpus-<digest>.json` with the digests of the
other files.
"""

import json
import shutil
from typing import NamedTuple

import numpy as np

from dsc.cli.errors import RunError, one_line
from dsc.cli.progress import Progress
from dsc.runs import atomic_io
from language_modeling.corpora import text
from language_modeling.corpora import vocabulary as tokens
from language_modeling.corpora.vocabulary import UNK

SPLITS = ("train", "valid", "test")
UNKNOWN = ("drop", "unk", "error")
VOCABULARY = "vocabulary.txt"


class Corpus(NamedTuple):
    """A text in three splits.

    Attributes:
        vocabulary: tuple of words, a word's id is its index: by descending count in the
            training file, ties in alphabetical order.
        ids: dict from split to int32 `[words]`.
        n_unknown: dict from split to the number of words outside the vocabulary (the
            release drops them silently).
        digests: dict from split to the digest of its words and their ids.
    """

    vocabulary: tuple
    ids: dict
    n_unknown: dict
    digests: dict


class Options(NamedTuple):
    """How words become ids; see `read_corpus`."""

    eos: str = "<eos>"
    unknown: str = "drop"
    vocab_size: int | None = None
    level: str = "word"

    def check(self):
        """Raises a `RunError` if the options are invalid."""
        if len(self.eos.split()) != 1 or not self.eos.isprintable():
            raise RunError(f"--EOS must be one word without blanks, not {self.eos!r}.")
        if self.vocab_size is not None and self.unknown == "error":
            raise RunError(
                "--unknown error: with --vocab_size every word outside the vocabulary "
                f"is read as {UNK}; leave one of the two flags out."
            )


def prepare(paths, options, folder):
    """Writes a corpus into an empty folder.

    Args:
        paths: dict from split to path of the text.
        options: `Options`.
        folder: `Path`.

    Raises:
        RunError: a text cannot be used, or the vocabulary is too large.
        OSError: the folder cannot be written.
    """
    runs = {}
    sizes = {s: p.stat().st_size if p.is_file() else 0 for s, p in paths.items()}
    # The shortest text first: its errors are then reported soon.
    for split in sorted(paths, key=sizes.get):
        path, ids = paths[split], folder / f"{split}.ids"
        with Progress(f"Reading {path.name}", sizes[split]) as progress:
            blocks = _tracked(text.read_blocks(path), progress, len)
            words = text.SPLITTERS[options.level](blocks, path, options.eos)
            runs[split] = tokens.number(words, ids)
    try:
        n_words = runs["train"][-1].stop
        with Progress("Choosing the vocabulary", n_words) as progress:
            counts = _tracked(tokens.count(runs["train"]), progress, lambda c: c[1])
            vocabulary = tokens.choose_vocabulary(
                counts, options.eos, options.vocab_size
            )
    except tokens.TooLarge:
        raise RunError(
            f"{paths['train']} has more distinct words than fit into "
            f"{tokens.MEMORY // 10**6} MB of memory; give a smaller --vocab_size."
        ) from None
    index = {word: i for i, word in enumerate(vocabulary)}
    if options.unknown == "unk" and UNK not in index:
        raise RunError(
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
                raise RunError(
                    f"--unknown error: {paths[split]} has {n_unknown[split]} words "
                    f"that are not in the training file, {first!r} first; add them to "
                    "it, or give --unknown drop or unk."
                )
    shutil.rmtree(folder / tokens.RUNS)
    (folder / VOCABULARY).write_bytes("".join(f"{w}\n" for w in vocabulary).encode())
    digests = {path.name: atomic_io.file_digest(path) for path in folder.iterdir()}
    content = json.dumps({"digests": digests, "n_unknown": n_unknown})
    atomic_io.write(folder / "corpus.json", content.encode(), digest=True)


def load(folder, digest_of=atomic_io.file_digest):
    """Memory-maps a `Corpus` that `prepare` has written.

    Args:
        folder: `Path`.
        digest_of: function from a path to the digest of the file.

    Raises:
        ValueError: the folder is damaged or missing.
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


def _tracked(items, progress, size):
    """Yields the items and adds their sizes to the progress."""
    for item in items:
        progress.add(size(item))
        yield item


def _map(path):
    if not path.stat().st_size:  # an empty file cannot be mapped
        return np.zeros(0, tokens.IDS)
    return np.asarray(np.memmap(path, tokens.IDS, "r"))

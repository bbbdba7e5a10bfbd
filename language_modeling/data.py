"""The text that a user means: that of --data_dir, or what is at hand."""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from language_modeling import agreement, deciding, reader
from language_modeling import flags as language_flags

ROOT = Path(__file__).resolve().parents[1]
FLAGS = language_flags.FLAGS


class Known(NamedTuple):
    """What the grammar of the embedded corpus tells of its test text.

    Attributes:
        floor: lowest possible perplexity.
        deciders: int `[words]`, see `deciding.deciders`.
    """

    floor: float
    deciders: np.ndarray


def find(tell=print):
    """The files that the flags name, or what is at hand, said in one line.

    Args:
        tell: what says it.

    Returns:
        `(dict from split to path, Known of the embedded corpus or None of another)`.

    Raises:
        DataError: there are no such files.
    """
    folder, embedded, known = FLAGS.data_dir, ROOT / "data" / "agreement", None
    if folder is None and (ROOT / "data" / "ptb").is_dir():
        folder = ROOT / "data" / "ptb"
        tell(f"Using the Penn Treebank in {folder}.")
    elif folder is None:
        folder = embedded
        tell(
            "No --data_dir and no data/ptb (scripts/get_ptb.py fetches it): using the "
            f"embedded agreement corpus in {folder}."
        )
    if os.path.realpath(folder) == os.path.realpath(embedded):
        known = _embedded_corpus(embedded)
    return reader.find(folder), known


def read(paths):
    """Reads a corpus as the flags say; what is unknown in it is said.

    Args:
        paths: dict from split to path.

    Returns:
        `reader.Corpus`.
    """
    cache_dir = FLAGS.cache_dir or ROOT / "data" / "cache"
    corpus = reader.read(paths, FLAGS.EOS, FLAGS.unknown, FLAGS.vocab_size, cache_dir)
    whose = "the training file" if FLAGS.vocab_size is None else "the vocabulary"
    done = {"drop": "dropped, as the release does", "unk": "read as <unk>"}
    for split, n in corpus.n_unknown.items():
        if n:
            print(
                f"{split}: {n} words that {whose} does not have are "
                f"{done[language_flags.unknown()]}."
            )
    return corpus


def _embedded_corpus(folder):
    """Makes the agreement corpus if it is not there; returns its `Known`."""
    try:
        if not all((folder / f"{split}.txt").is_file() for split in reader.SPLITS):
            agreement.write(folder)
        train, test = (agreement.read(folder / f"{s}.txt") for s in ("train", "test"))
        if not set().union(*test) <= set().union(*train):
            raise ValueError("test.txt has words that train.txt does not have")
        return Known(agreement.floor_perplexity(test), deciding.deciders(test))
    except (OSError, ValueError) as error:
        raise reader.DataError(
            f"The embedded corpus in {folder} cannot be made or read ({error}); delete "
            "the folder, and it is made again."
        ) from None

"""The text that a user means: that of --data_dir, of a run, or what is at hand."""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dsc.cli.errors import RunError, one_line
from language_modeling import flags as language_flags
from language_modeling.agreement import grammar, lookback
from language_modeling.corpora import windows

ROOT = Path(__file__).resolve().parents[2]
FLAGS = language_flags.FLAGS


class Known(NamedTuple):
    """What the grammar of the embedded corpus tells of its test text.

    Attributes:
        floor: lowest possible perplexity.
        deciders: int `[words]`, see `deciding.deciders`.
    """

    floor: float
    deciders: np.ndarray


def find(run=None, tell=print):
    """The files that the flags name, or what is at hand, said in one line.

    --data_dir becomes their absolute path, so that a run keeps it.

    Args:
        run: `RunFolder` whose flags were restored, --data_dir among them, or None.
        tell: what says it.

    Returns:
        `(dict from split to path, Known of the embedded corpus or None of another)`.

    Raises:
        DataError: there are no such files.
        RunError: the run's files are gone.
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
    FLAGS.data_dir = os.path.abspath(folder)
    try:
        if os.path.realpath(folder) == os.path.realpath(embedded):
            known = _embedded_corpus(embedded)
        return windows.find(folder), known
    except ValueError:  # a `DataError`, or a run has what is no path
        if run:
            run.check_data(None, FLAGS, "data_dir")
        raise


def of_run(run, split, tell=print):
    """The path of a split of the corpus that a run was trained on; see `read`."""
    paths, _ = find(run, tell)
    read(paths, run, tell)
    return paths[split]


def read(paths, run=None, tell=print):
    """Reads a corpus as the flags say; what is unknown in it is said.

    Args:
        paths: dict from split to path.
        run: `RunFolder` whose corpus it has to be, or None. With --data_dir another
            corpus with the same vocabulary will do.
        tell: what says it.

    Returns:
        `reader.Corpus`.

    Raises:
        DataError: see `reader.read`.
        RunError: it is not the run's.
    """
    cache_dir = FLAGS.cache_dir or ROOT / "data" / "cache"
    corpus = windows.read(paths, FLAGS.EOS, FLAGS.unknown, FLAGS.vocab_size, cache_dir)
    if run:
        run.check_data(corpus.digests, FLAGS, "data_dir", "unknown")
        if run.read_vocabulary() != corpus.vocabulary:
            raise RunError(
                f"--data_dir: {paths['train']} gives another vocabulary than the run "
                f"in {run.path}; give the corpus that the model was trained on."
            )
    whose = "the training file" if FLAGS.vocab_size is None else "the vocabulary"
    done = {"drop": "dropped, as the release does", "unk": "read as <unk>"}
    for split, n in corpus.n_unknown.items():
        if n:
            tell(
                f"{split}: {n} words that {whose} does not have are "
                f"{done[language_flags.unknown()]}."
            )
    return corpus


def _embedded_corpus(folder):
    """Makes the agreement corpus if it is not there; returns its `Known`."""
    try:
        if not all((folder / f"{split}.txt").is_file() for split in windows.SPLITS):
            grammar.write(folder)
    except OSError as error:
        raise windows.DataError(
            f"The embedded corpus cannot be written to {folder} ({one_line(error)}); "
            "make the folder writable, or give another corpus with --data_dir."
        ) from None
    try:
        train, test = (grammar.read(folder / f"{s}.txt") for s in ("train", "test"))
        if not set().union(*test) <= set().union(*train):
            raise ValueError("test.txt has words that train.txt does not have")
        return Known(grammar.floor_perplexity(test), lookback.deciders(test))
    except (OSError, ValueError) as error:
        raise windows.DataError(
            f"The embedded corpus in {folder} cannot be read ({error}); delete the "
            "folder, and it is made again."
        ) from None

"""Finds and reads the corpus that the flags name."""

import os
from pathlib import Path

from dsc.cli.errors import RunError
from language_modeling import corpora
from language_modeling.agreement.facts import embedded_corpus
from language_modeling.flags import unknown

ROOT = Path(__file__).resolve().parents[1]
TREATMENT = {"drop": "dropped", "unk": "read as <unk>"}  # of unknown words


def load(values, run=None, log=print):
    """Reads the corpus of --data_dir, or of a run, or the default one.

    Sets `values.data_dir` to an absolute path, so that a run keeps it.

    Args:
        values: `absl.flags.FlagValues` of `language_modeling.flags`, parsed.
        run: `RunFolder` whose flags were restored, or None. The corpus must be the
            run's; with --data_dir it only needs the same vocabulary.
        log: function of a line to print.

    Returns:
        `(paths, corpus, facts)`: dict from split to path; `corpora.Corpus`;
        `GrammarFacts` of the embedded corpus, None for any other.

    Raises:
        DataError: the corpus cannot be found or read.
        RunError: the corpus is not the run's.
    """
    paths, facts = find(values, run, log)
    corpus = corpora.read_corpus(
        paths,
        values.EOS,
        values.unknown,
        values.vocab_size,
        values.cache_dir or ROOT / "data" / "cache",
    )
    if run:
        run.check_data(corpus.digests, values, "data_dir", "unknown")
        if run.read_vocabulary() != corpus.vocabulary:
            raise RunError(
                f"--data_dir: {paths['train']} gives another vocabulary than the run "
                f"in {run.path}; give the corpus that the model was trained on."
            )
    source = "the training file" if values.vocab_size is None else "the vocabulary"
    for split, n in corpus.n_unknown.items():
        if n:
            treatment = TREATMENT[unknown(values)]
            log(f"{split}: {n} words that are not in {source} are {treatment}.")
    return paths, corpus, facts


def find(values, run=None, log=print):
    """`(paths, facts)` of the corpus; see `load`."""
    folder, embedded, facts = values.data_dir, ROOT / "data" / "agreement", None
    if folder is None and (ROOT / "data" / "ptb").is_dir():
        folder = ROOT / "data" / "ptb"
        log(f"Using the Penn Treebank in {folder}.")
    elif folder is None:
        folder = embedded
        log(
            "No --data_dir and no data/ptb (scripts/get_ptb.py fetches it): using the "
            f"embedded agreement corpus in {folder}."
        )
    values.data_dir = os.path.abspath(folder)
    try:
        if os.path.realpath(folder) == os.path.realpath(embedded):
            facts = embedded_corpus(embedded)
        return corpora.find_splits(folder), facts
    except ValueError:  # also raised for a folder name that no path can have
        if run:
            run.check_data(None, values, "data_dir")
        raise

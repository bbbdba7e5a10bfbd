"""Finds and reads the corpus that the flags name."""

import os
from pathlib import Path

from dsc.cli.errors import RunError, one_line
from language_modeling import corpora
from language_modeling.agreement import grammar, lookback
from language_modeling.corpora import text
from language_modeling.flags import unknown
from language_modeling.metrics import LEVELS

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
        `lookback.GrammarFacts` of the embedded corpus, None for any other and for
        characters.

    Raises:
        RunError: the corpus cannot be found or read, or is not the run's.
    """
    paths, facts = find(values, run, log)
    corpus = corpora.read_corpus(
        paths,
        values.EOS,
        values.unknown,
        values.vocab_size,
        values.cache_dir or ROOT / "data" / "cache",
        values.level,
    )
    if values.level == "word" and text.lacks_blanks(paths["train"]):
        log(
            f"{paths['train'].name} seems to be in a script without blanks between "
            "words, so that a word here is a phrase or a whole line. Separate the "
            "words by blanks, or give --level char."
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
            unit = LEVELS[values.level].unit
            log(f"{split}: {n} {unit} that are not in {source} are {treatment}.")
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
            facts = _embedded_facts(embedded)  # of its words
        paths = corpora.find_splits(folder, values.level)
        return paths, facts if values.level == "word" else None
    except ValueError:  # also raised for a folder name that no path can have
        if run:
            run.check_data(None, values, "data_dir")
        raise


def _embedded_facts(folder):
    """Writes the embedded corpus to `folder` if needed; returns its `GrammarFacts`."""
    try:
        if not all((folder / f"{split}.txt").is_file() for split in corpora.SPLITS):
            grammar.write(folder)
    except OSError as error:
        raise RunError(
            f"The embedded corpus cannot be written to {folder} ({one_line(error)}); "
            "make the folder writable, or give another corpus with --data_dir."
        ) from None
    try:
        train, test = (grammar.read(folder / f"{s}.txt") for s in ("train", "test"))
        if not set().union(*test) <= set().union(*train):
            raise ValueError("test.txt has words that are not in train.txt")
        return lookback.GrammarFacts(
            grammar.floor_perplexity(test), lookback.deciders(test)
        )
    except (OSError, ValueError) as error:
        raise RunError(
            f"The embedded corpus in {folder} cannot be read ({error}); delete the "
            "folder, then it is written again."
        ) from None

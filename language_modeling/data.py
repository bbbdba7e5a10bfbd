"""The corpus that the flags ask for: that of --data_dir, of a run, or the default."""

import os
from pathlib import Path

from dsc.cli.errors import RunError
from language_modeling import corpora
from language_modeling.agreement.facts import embedded_corpus
from language_modeling.flags import unknown

ROOT = Path(__file__).resolve().parents[1]


def find(values, run=None, log=print):
    """The files that the flags name, or the default ones, said in one line.

    `values.data_dir` becomes their absolute path, so that a run keeps it.

    Args:
        values: `absl.flags.FlagValues` of `language_modeling.flags`, parsed.
        run: `RunFolder` whose flags were restored, --data_dir among them, or None.
        log: function of a line to print.

    Returns:
        `(dict from split to path, GrammarFacts of the embedded corpus or None)`.

    Raises:
        DataError: there are no such files.
        RunError: the run's files are gone.
    """
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
    except ValueError:  # a `DataError`, or a run has what is no path
        if run:
            run.check_data(None, values, "data_dir")
        raise


def read(values, paths, run=None, log=print):
    """Reads a corpus as the flags say, and prints how many words are unknown.

    Args:
        values: see `find`.
        paths: dict from split to path.
        run: `RunFolder` whose corpus it has to be, or None. With --data_dir another
            corpus with the same vocabulary will do.
        log: function of a line to print.

    Returns:
        `corpora.Corpus`.

    Raises:
        DataError: see `corpora.read_corpus`.
        RunError: it is not the run's.
    """
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
    whose = "the training file" if values.vocab_size is None else "the vocabulary"
    done = {"drop": "dropped, as the release does", "unk": "read as <unk>"}
    for split, n in corpus.n_unknown.items():
        if n:
            log(
                f"{split}: {n} words that {whose} does not have are "
                f"{done[unknown(values)]}."
            )
    return corpus


def split_of_run(values, run, split, log=print):
    """The path of a split of the corpus that a run was trained on; see `read`."""
    paths, _ = find(values, run, log)
    read(values, paths, run, log)
    return paths[split]

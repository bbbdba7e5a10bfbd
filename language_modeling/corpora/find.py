"""Finding the files of a corpus, and reading them as word ids."""

import os
import tempfile
from pathlib import Path

from language_modeling.corpora import cache, corpus
from language_modeling.corpora.corpus import SPLITS
from language_modeling.corpora.text import DataError


def find_splits(data_dir):
    """The three files of a corpus.

    Args:
        data_dir: folder with `{train,valid,test}.txt` or `ptb.{train,valid,test}.txt`.

    Returns:
        Dict from split to path.

    Raises:
        DataError: the folder or one of the files is missing.
    """
    folder = Path(data_dir)
    if not os.path.isdir(folder):  # Path's own raises where it may not look
        raise DataError(
            f"--data_dir: there is no folder {folder}; give a folder with train.txt, "
            "valid.txt and test.txt, or fetch the Penn Treebank with "
            "`python scripts/get_ptb.py`."
        )
    for pattern in ("ptb.{}.txt", "{}.txt"):
        paths = {split: folder / pattern.format(split) for split in SPLITS}
        found = [path for path in paths.values() if os.path.isfile(path)]
        if len(found) == len(SPLITS):
            return paths
        if found:
            missing = [p.name for p in paths.values() if p not in found]
            raise DataError(
                f"--data_dir: {folder} has {found[0].name} but not "
                f"{' and '.join(missing)}; all three splits are needed."
            )
    raise DataError(
        f"--data_dir: {folder} has neither ptb.train.txt nor train.txt; give a folder "
        "with the splits train, valid and test."
    )


def read_corpus(paths, eos="<eos>", unknown="drop", vocab_size=None, cache_dir=None):
    """Reads a corpus, of any size: its ids are made once and then mapped from files.

    Lines may end in LF, CRLF or CR, and a byte order mark at the beginning is no part
    of the text. A blank line is a line: it has the word for its end.

    Args:
        paths: dict from split to path, from `find_splits`.
        eos: the word that stands for the end of a line.
        unknown: what becomes of words that the training file does not have: `drop`,
            as in the release; `unk`, they are read as `<unk>`; `error`.
        vocab_size: how many words the vocabulary may have, or None for all. The most
            frequent of the training file are kept, of equally frequent ones the first
            in the alphabet, and always `<unk>` and `eos`; every other word is read as
            `<unk>`, in all splits, so `drop` and `unk` are then the same.
        cache_dir: folder in which the ids are kept, see `corpora.cache`; None
            keeps them as long as they are used.

    Returns:
        `Corpus`.

    Raises:
        DataError: a file cannot be read, is no text in UTF-8 or has no words; there
            are unknown words where none may be, or there is no `<unk>` for them; the
            vocabulary does not fit into memory; the ids cannot be written.
    """
    options = corpus.Options(eos, unknown, vocab_size)
    options.check()
    if cache_dir is not None:
        return cache.read(paths, options, cache_dir)
    with tempfile.TemporaryDirectory() as name, corpus.writing(name):
        corpus.prepare(paths, options, Path(name))
        return corpus.load(Path(name))  # what is mapped outlives its folder

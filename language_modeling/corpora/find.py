"""Finds the files of a corpus and reads them as word ids."""

import os
import tempfile
from pathlib import Path

from dsc.cli.errors import RunError, writing
from language_modeling.corpora import cache, corpus, text
from language_modeling.corpora.corpus import SPLITS


def find_splits(data_dir, level="word"):
    """The three files of a corpus.

    Args:
        data_dir: folder with `{train,valid,test}.txt`, `ptb.{train,valid,test}.txt` or
            WikiText's `wiki.{train,valid,test}.tokens`.
        level: with `char`, `ptb.char.{train,valid,test}.txt` come first.

    Returns:
        Dict from split to path.

    Raises:
        RunError: the folder or one of the files is missing.
    """
    folder = Path(data_dir)
    if not os.path.isdir(folder):  # Path.is_dir raises without permission
        raise RunError(
            f"--data_dir: there is no folder {folder}; give a folder with train.txt, "
            "valid.txt and test.txt, or fetch the Penn Treebank with "
            "`python scripts/get_ptb.py`."
        )
    patterns = ["ptb.char.{}.txt"] if level == "char" else []
    for pattern in (*patterns, "ptb.{}.txt", "{}.txt", "wiki.{}.tokens"):
        paths = {split: folder / pattern.format(split) for split in SPLITS}
        found = [path for path in paths.values() if os.path.isfile(path)]
        if len(found) == len(SPLITS):
            return paths
        if found:
            missing = [p.name for p in paths.values() if p not in found]
            raise RunError(
                f"--data_dir: {folder} has {found[0].name} but not "
                f"{' and '.join(missing)}; all three splits are needed."
            )
    raise RunError(
        f"--data_dir: {folder} has neither ptb.train.txt nor train.txt nor "
        "wiki.train.tokens; give a folder with the splits train, valid and test."
    )


def read_corpus(
    paths,
    eos="<eos>",
    unknown="drop",
    vocab_size=None,
    cache_dir=None,
    level="word",
):
    """Reads a corpus of any size: its ids are computed once and memory-mapped.

    See `text.split_words` for what a word is. With the level `char` the words are
    characters.

    Args:
        paths: dict from split to path, from `find_splits`.
        eos: the word that stands for the end of a line.
        unknown: treatment of words that are not in the training file: `drop` as in the
            release, `unk` reads them as `<unk>`, `error` refuses them.
        vocab_size: size of the vocabulary, None for all words. The most frequent words
            of the training file are kept, ties in alphabetical order, and always
            `<unk>` and `eos`. All others are read as `<unk>` in all splits, also with
            `drop`.
        cache_dir: folder that keeps the ids, see `corpora.cache`; None keeps them only
            while they are in use.
        level: `word` or `char`; see `text.splitter`.

    Returns:
        `Corpus`.

    Raises:
        RunError: a file cannot be read, is not UTF-8 text or has no words; there are
            unknown words but `unknown` is `error`, or it is `unk` and there is no
            `<unk>`; the vocabulary does not fit into memory; the ids cannot be written.
    """
    # The cache goes by content: the options must say how it is read, not the name.
    level = "word" if text.is_spelled_out(paths["train"]) else level
    options = corpus.Options(eos, unknown, vocab_size, level)
    options.check()
    if cache_dir is not None:
        return cache.read(paths, options, cache_dir)
    with tempfile.TemporaryDirectory() as name, writing(name, "--cache_dir"):
        corpus.prepare(paths, options, Path(name))
        return corpus.load(Path(name))  # mapped files outlive their folder

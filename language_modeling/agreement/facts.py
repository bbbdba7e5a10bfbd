"""The embedded corpus on disk, and what is known of its test split."""

from typing import NamedTuple

import numpy as np

from dsc.cli.errors import one_line
from language_modeling.agreement import grammar, lookback
from language_modeling.corpora import SPLITS, DataError


class GrammarFacts(NamedTuple):
    """What the grammar says about the test split of the embedded corpus.

    Attributes:
        floor: its lowest possible perplexity.
        deciders: int `[words]`, see `lookback.deciders`.
    """

    floor: float
    deciders: np.ndarray


def embedded_corpus(folder):
    """Writes the embedded corpus to `folder` if needed; returns its `GrammarFacts`.

    Raises:
        DataError: the corpus cannot be written or read.
    """
    try:
        if not all((folder / f"{split}.txt").is_file() for split in SPLITS):
            grammar.write(folder)
    except OSError as error:
        raise DataError(
            f"The embedded corpus cannot be written to {folder} ({one_line(error)}); "
            "make the folder writable, or give another corpus with --data_dir."
        ) from None
    try:
        train, test = (grammar.read(folder / f"{s}.txt") for s in ("train", "test"))
        if not set().union(*test) <= set().union(*train):
            raise ValueError("test.txt has words that are not in train.txt")
        return GrammarFacts(grammar.floor_perplexity(test), lookback.deciders(test))
    except (OSError, ValueError) as error:
        raise DataError(
            f"The embedded corpus in {folder} cannot be read ({error}); delete the "
            "folder, then it is written again."
        ) from None

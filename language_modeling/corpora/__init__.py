"""Text files to word ids, and the windows that are cut from them.

The same vocabulary and ids as the release's reader (release:
`language_modeling/reader.py`): words stand between blanks, the end of a line is a word
of its own, and the vocabulary is that of the training file. `text` splits words,
`vocabulary` gives them ids, `corpus` stores the ids in files and `cache` keeps these.
"""

from language_modeling.corpora.corpus import SPLITS, UNKNOWN, Corpus
from language_modeling.corpora.find import find_splits, read_corpus
from language_modeling.corpora.text import DataError
from language_modeling.corpora.vocabulary import UNK
from language_modeling.corpora.windows import Windows, all_windows, whole_windows

__all__ = [
    "SPLITS",
    "UNK",
    "UNKNOWN",
    "Corpus",
    "DataError",
    "Windows",
    "all_windows",
    "find_splits",
    "read_corpus",
    "whole_windows",
]

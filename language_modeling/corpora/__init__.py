"""Text files to word ids and windows.

Vocabulary and ids are those of the release's reader (release:
`language_modeling/reader.py`): words are separated by blanks, the end of a line is a
word, and the vocabulary is that of the training file. `text` splits words, `vocabulary`
assigns ids, `corpus` stores them in files and `cache` keeps these files.
"""

from language_modeling.corpora.corpus import SPLITS, UNKNOWN, Corpus
from language_modeling.corpora.find import find_splits, read_corpus
from language_modeling.corpora.vocabulary import UNK
from language_modeling.corpora.windows import Windows, all_windows, whole_windows

__all__ = [
    "SPLITS",
    "UNK",
    "UNKNOWN",
    "Corpus",
    "Windows",
    "all_windows",
    "find_splits",
    "read_corpus",
    "whole_windows",
]

"""Words to ids in bounded memory.

One pass over the text numbers its words in order of appearance and writes the numbers
to disk (`number`). Their counts determine the vocabulary (`choose_vocabulary`), and a
pass over the numbers turns them into ids (`renumber`). When the table of words grows
too large, it is written to disk and a new one starts from zero: the text that one table
numbered is a run. The words of a run are sorted on disk, so runs can be merged without
loading them.
"""

import heapq
import itertools
import operator
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

IDS = np.dtype("<i4")
UNK = "<unk>"
MEMORY = 160_000_000  # bytes for the words of a table or vocabulary
ENTRY = 100  # bytes per word beside its characters
CHUNK = 1 << 20  # numbers read at a time
RUNS = "runs"  # folder of the runs, beside the file of the numbers


class TooLarge(Exception):
    """A vocabulary does not fit into its memory."""


class Run(NamedTuple):
    """A part of a text that was numbered by one table.

    Attributes:
        path: file of lines `word count number`, sorted by word.
        n_words: number of its lines.
        start, stop: range of the part in the file of the text's numbers.
    """

    path: Path
    n_words: int
    start: int
    stop: int


class _Table(dict):
    """Numbers words in order of first access."""

    n_bytes = 0

    def __missing__(self, word):
        self[word] = number = len(self)
        self.n_bytes += sys.getsizeof(word) + ENTRY
        return number


def number(words, path, memory=MEMORY):
    """Writes the numbers of a text's words to a file.

    Args:
        words: iterable of lists of words, from `text.split_words`.
        path: file for the numbers; the words are written into `RUNS` beside it.
        memory: bytes for a table of words.

    Returns:
        List of `Run`.
    """
    runs, table, start, stop = [], _Table(), 0, 0
    (path.parent / RUNS).mkdir(exist_ok=True)
    with open(path, "wb") as file:
        for some in itertools.chain(words, [None]):
            if some is not None:
                file.write(np.fromiter(map(table.__getitem__, some), IDS, len(some)))
                stop += len(some)
            if table and (some is None or table.n_bytes > memory):
                file.flush()
                runs.append(_write_run(table, path, start, stop))
                table, start = _Table(), stop
    return runs


def _write_run(table, path, start, stop):
    counts = np.zeros(len(table), np.int64)
    with open(path, "rb") as file:
        for numbers in _read_numbers(file, start, stop):
            counts += np.bincount(numbers, minlength=len(table))
    counts = counts.tolist()
    words = path.parent / RUNS / f"{path.name}.{start}"
    with open(words, "w", encoding="utf-8", newline="\n") as file:
        for word in sorted(table):
            file.write(f"{word} {counts[table[word]]} {table[word]}\n")
    return Run(words, len(table), start, stop)


def _read_lines(path):
    with open(path, encoding="utf-8", newline="\n") as file:
        for line in file:
            word, count, number = line.split(" ")
            yield word, int(count), int(number)


def _read_numbers(file, start, stop):
    for position in range(start, stop, CHUNK):
        file.seek(position * IDS.itemsize)
        n = min(CHUNK, stop - position)
        yield np.frombuffer(file.read(n * IDS.itemsize), IDS)


def count(runs):
    """Yields `(word, count)` of all words of some runs, sorted by word."""
    lines = heapq.merge(*(_read_lines(run.path) for run in runs))
    for word, same in itertools.groupby(lines, operator.itemgetter(0)):
        yield word, sum(count for _, count, _ in same)


def choose_vocabulary(counted, eos, size=None, memory=MEMORY):
    """The words that get ids.

    Args:
        counted: iterable of `(word, count)`, each word once.
        eos: the word that stands for the end of a line.
        size: see `vocab_size` of `read_corpus`. The count of `<unk>` then includes all
            words that are left out.
        memory: bytes for the words; while selecting, as many again.

    Returns:
        List of words by descending count, ties in alphabetical order; a word's id is
        its index.

    Raises:
        TooLarge: the vocabulary does not fit into `memory`.
    """
    always = {} if size is None else {eos: 0, UNK: 0}
    limit = memory // ENTRY + 1  # so many words do not fit
    if size is not None:
        limit = min(limit, size - len(always))
    total = 0

    def candidates():
        nonlocal total
        for word, n in counted:
            total += n
            if word in always:
                always[word] = n
            else:
                yield -n, word

    # One more than needed, since `nsmallest` reads nothing if it is asked for nothing.
    others = heapq.nsmallest(limit + 1, candidates())[:limit]
    if sum(sys.getsizeof(word) + ENTRY for _, word in others) > memory:
        raise TooLarge
    if UNK in always:
        n_kept = sum(-n for n, _ in others) + (always[eos] if eos != UNK else 0)
        always[UNK] = total - n_kept
    others += [(-n, word) for word, n in always.items()]
    return [word for _, word in sorted(others)]


def renumber(path, runs, index, stand_in, progress):
    """Turns the numbers in a file into ids, in place.

    Args:
        path, runs: file and result of `number`.
        index: dict from word to id.
        stand_in: id of unknown words, or None to drop them.
        progress: `dsc.cli.progress.Progress`, counts words.

    Returns:
        `(n_unknown, first_unknown)`: the number of unknown words, and the first of them
        or None.
    """
    n_ids, n_unknown, first_unknown = 0, 0, None
    with open(path, "r+b") as file:
        for run in runs:
            ids = [-1] * run.n_words
            for word, _, number in _read_lines(run.path):
                ids[number] = index.get(word, -1)
            id_of = np.array(ids, IDS)
            for numbers in _read_numbers(file, run.start, run.stop):
                found = id_of[numbers]
                unknown = found < 0
                if unknown.any():
                    n_unknown += np.count_nonzero(unknown)
                    if first_unknown is None:
                        number = numbers[unknown.argmax()]
                        words = (w for w, _, n in _read_lines(run.path) if n == number)
                        first_unknown = next(words)
                    if stand_in is None:
                        found = found[~unknown]
                    else:
                        found[unknown] = stand_in
                # Never beyond what was read: a text only becomes shorter.
                file.seek(n_ids * IDS.itemsize)
                file.write(found)
                n_ids += len(found)
                progress.add(len(numbers))
        file.truncate(n_ids * IDS.itemsize)
    return int(n_unknown), first_unknown

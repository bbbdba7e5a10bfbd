"""Words to ids in bounded memory, by way of numbers on disk.

A text's words are numbered in the order in which they come up, in one pass over the
text (`number`). What each counts decides on the vocabulary (`choose_vocabulary`), and
a pass over the numbers makes ids of them (`renumber`). When the table of the words
grows too large it is written to disk and another is begun, which numbers from zero
again: what one table has numbered is a run. The words of a run lie sorted, so those of
all runs can be merged without being in memory.
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
MEMORY = 160_000_000  # bytes that the words of a table, or of a vocabulary, may take
ENTRY = 100  # of them, what a word takes beside its characters
CHUNK = 1 << 20  # numbers read at a time
FAN_IN = 200  # runs merged at a time, each an open file
RUNS = "runs"  # folder of their files, beside that of the numbers


class TooLarge(Exception):
    """A vocabulary does not fit into the memory for it."""


class Run(NamedTuple):
    """A part of a text, numbered by a table of its own.

    Attributes:
        path: file of lines `word count number`, by word.
        n_words: how many lines it has.
        start, stop: the part's place in the file of the text's numbers.
    """

    path: Path
    n_words: int
    start: int
    stop: int


class _Table(dict):
    """Numbers words in the order in which they are asked for."""

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
        memory: bytes that a table of words may take.

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
    lines = ((word, counts[table[word]], table[word]) for word in sorted(table))
    words = path.parent / RUNS / f"{path.name}.{start}"
    _write_lines(words, lines)
    return Run(words, len(table), start, stop)


def _write_lines(path, lines):
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{word} {count} {number}\n" for word, count, number in lines)


def _read_lines(path):
    with open(path, encoding="utf-8", newline="\n") as file:
        for line in file:
            word, count, number = line.split(" ")
            yield word, int(count), int(number)


def _read_numbers(file, start, stop):
    for place in range(start, stop, CHUNK):
        file.seek(place * IDS.itemsize)
        n = min(CHUNK, stop - place)
        yield np.frombuffer(file.read(n * IDS.itemsize), IDS)


def count(runs):
    """Yields `(word, count)` of all words of some runs, by word."""
    paths = [run.path for run in runs]
    while len(paths) > FAN_IN:
        merged = paths[0].with_name(f"{paths[0].name}.merged")
        first, paths = paths[:FAN_IN], paths[FAN_IN:]
        _write_lines(merged, ((*counted, -1) for counted in _merge(first)))
        paths.append(merged)
    return _merge(paths)


def _merge(paths):
    lines = heapq.merge(*map(_read_lines, paths))
    for word, same in itertools.groupby(lines, operator.itemgetter(0)):
        yield word, sum(count for _, count, _ in same)


def choose_vocabulary(counted, eos, size=None, memory=MEMORY):
    """The words that get ids.

    Args:
        counted: iterable of `(word, count)`, each word once.
        eos: the word that stands for the end of a line.
        size: how many words there may be, or None for all. `<unk>` and the end of a
            line are always among them; of the others the most frequent are, of those
            with the same count the first in the alphabet. `<unk>` then counts as what
            is read as `<unk>`: itself, and all words that are left out.
        memory: bytes that the words may take; while they are looked for, as many more.

    Returns:
        List of words, a word's id is its place: by falling count, ties in alphabetical
        order.

    Raises:
        TooLarge: the vocabulary does not fit into `memory`.
    """
    always = {} if size is None else {eos: 0, UNK: 0}
    n_others = None if size is None else size - len(always)

    def best(others):
        others = sorted(others)[:n_others]
        n_bytes = sum(sys.getsizeof(word) + ENTRY for _, word in others)
        if n_bytes > memory:
            raise TooLarge
        return others, n_bytes

    total, n_bytes, others = 0, 0, []
    for word, n in counted:
        total += n
        if word in always:
            always[word] = n
            continue
        others.append((-n, word))
        n_bytes += sys.getsizeof(word) + ENTRY
        if n_bytes > 2 * memory:
            others, n_bytes = best(others)
    others, _ = best(others)
    if UNK in always:
        n_kept = sum(-n for n, _ in others) + (always[eos] if eos != UNK else 0)
        always[UNK] = total - n_kept
    others += [(-n, word) for word, n in always.items()]
    return [word for _, word in sorted(others)]


def renumber(path, runs, index, stand_in, progress):
    """Turns the numbers in a file into ids, in place.

    Args:
        path: file of `number`.
        runs: what it returned.
        index: dict from word to id.
        stand_in: the id of words that have none, or None to leave them out.
        progress: `dsc.cli.progress.Progress`, counts words.

    Returns:
        `(n_unknown, first_unknown)`: how many words have no id of their own, and the
        first of them or None.
    """
    n_ids, n_unknown, first_unknown = 0, 0, None
    with open(path, "r+b") as file:
        for run in runs:
            ids = [-1] * run.n_words
            for word, _, place in _read_lines(run.path):
                ids[place] = index.get(word, -1)
            id_of = np.array(ids, IDS)
            for numbers in _read_numbers(file, run.start, run.stop):
                found = id_of[numbers]
                unknown = found < 0
                if unknown.any():
                    n_unknown += np.count_nonzero(unknown)
                    if first_unknown is None:
                        first_unknown = _word(run, numbers[unknown.argmax()])
                    if stand_in is None:
                        found = found[~unknown]
                    else:
                        found[unknown] = stand_in
                # Never beyond what was read: a text gets no longer.
                file.seek(n_ids * IDS.itemsize)
                file.write(found)
                n_ids += len(found)
                progress.add(len(numbers))
        file.truncate(n_ids * IDS.itemsize)
    return int(n_unknown), first_unknown


def _word(run, number):
    return next(word for word, _, place in _read_lines(run.path) if place == number)

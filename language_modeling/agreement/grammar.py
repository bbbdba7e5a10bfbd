"""An invented language whose best possible perplexity is known exactly.

The text has the form of the Penn Treebank files of Mikolov: one sentence to a
line, words between single blanks. Many of its words are decided by one word some
way back, as a verb is by its subject, so a model which looks back to the right
place gains a known amount over one which does not.

A noun or verb is a stem and one of 16 endings: 8 classes (-an, -as, ...) times
singular -a or plural -i. A verb takes the ending of its subject. No other word
tells that ending: a noun is the subject of one verb at most, and the nouns
between them have endings of their own. Likewise a bracket `(ka` is closed by
`ka)`, and there are 8 kinds. All words of a sort are equally likely. Below, |e is
an ending, d > 0 bounds the nesting, and the numbers are the probabilities of the
alternatives (a bracket may close after each of its adjectives with 0.5):

    sentence       clause,2  more
    clause,d       noun|e  predicate|e,d
    predicate|e,0  0.4  verb|e
                   0.6  adverb  verb|e
    predicate|e,d  0.1  verb|e
                   0.2  adverb  verb|e
                   0.3  preposition  object  predicate|e,d-1
                   0.2  quo  clause,d-1  predicate|e,d-1         (whom it sees)
                   0.2  (k  one to three adjectives  k)  predicate|e,d-1
    object         0.8  noun
                   0.2  adjective  noun
    more           0.6  the end
                   0.4  mo  clause,2  the end                    (but it sees)

Two sentences, each verb (stems pes, rav, sut, tig, vol, zab) with its subject's
ending:

    fumila quo gilasi luwix ravasi nawix zabila
    hapoki (ba konko nunko ba) kra munasi ravoki mo lekiri nawix pesiri

The first words of the alternatives differ, so a text has one reading only and the
probability of each word given all before it can be read off the table. The
perplexity of the language, ends of sentences included, is 25.11: no model does
better on a long text. One which knows the table, but sees no more than the word
before when it comes to endings and brackets, is left with about 43.
"""

import math
from bisect import bisect
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dsc.runs import atomic_io

EOS = "<eos>"
CLASSES = ["an", "as", "el", "et", "il", "ir", "ok", "um"]
ENDINGS = [c + number for c in CLASSES for number in "ai"]
NOUN_STEMS = ["bod", "fum", "gil", "hap", "jor", "lek", "mun", "nid"]
VERB_STEMS = ["pes", "rav", "sut", "tig", "vol", "zab"]
SYLLABLES = [c + v for c in "bdgklmnr" for v in "aeiou"]
ADJECTIVES = [s + "nko" for s in SYLLABLES]
ADVERBS = [s + "wix" for s in SYLLABLES]
PREPOSITIONS = [c + v for c in ["gl", "kr"] for v in "aeiou"]
BRACKETS = ["ba", "do", "fe", "gu", "ka", "li", "pi", "su"]
NOUNS = {e: [stem + e for stem in NOUN_STEMS] for e in ENDINGS}
VERBS = {e: [stem + e for stem in VERB_STEMS] for e in ENDINGS}
ALL_NOUNS = [noun for e in ENDINGS for noun in NOUNS[e]]


class Symbol(NamedTuple):
    """A part of the sentence which is still to come: a left side of the table.

    Attributes:
        part: its name.
        mark: how the verb or closing bracket that it owes must end; "" for none.
        depth: how many more levels it may nest, or adjectives it may take.
    """

    part: str
    mark: str = ""
    depth: int = 0


START = (Symbol("clause", "", 2), Symbol("more"))  # a sentence


def _rules(due: Symbol) -> list[tuple[float, Sequence[str], tuple[Symbol, ...]]]:
    """The table: (probability, words to take one of, parts due after it)."""
    match due:
        case Symbol("clause", _, depth):
            each = 1 / len(ENDINGS)
            return [(each, NOUNS[e], (Symbol("predicate", e, depth),)) for e in ENDINGS]
        case Symbol("predicate", e, 0):
            return [(0.4, VERBS[e], ()), (0.6, ADVERBS, (Symbol("verb", e),))]
        case Symbol("predicate", e, depth):
            rest = Symbol("predicate", e, depth - 1)
            each = 0.2 / len(BRACKETS)
            return [
                (0.1, VERBS[e], ()),
                (0.2, ADVERBS, (Symbol("verb", e),)),
                (0.3, PREPOSITIONS, (Symbol("object"), rest)),
                (0.2, ["quo"], (Symbol("clause", "", depth - 1), rest)),
            ] + [
                (
                    each,
                    ["(" + k],
                    (Symbol("adjective"), Symbol("inside", k + ")", 2), rest),
                )
                for k in BRACKETS
            ]
        case Symbol("verb", e):
            return [(1, VERBS[e], ())]
        case Symbol("object"):
            return [(0.8, ALL_NOUNS, ()), (0.2, ADJECTIVES, (Symbol("noun"),))]
        case Symbol("noun"):
            return [(1, ALL_NOUNS, ())]
        case Symbol("inside", close, 0):
            return [(1, [close], ())]
        case Symbol("inside", close, room):
            more = Symbol("inside", close, room - 1)
            return [(0.5, [close], ()), (0.5, ADJECTIVES, (more,))]
        case Symbol("adjective"):
            return [(1, ADJECTIVES, ())]
        case Symbol("more"):
            return [
                (0.6, [EOS], ()),
                (0.4, ["mo"], (Symbol("clause", "", 2), Symbol("end"))),
            ]
        case Symbol("end"):
            return [(1, [EOS], ())]
    raise ValueError(f"the grammar has no part {due}")


@cache
def choices(due: Symbol) -> dict[str, tuple[float, tuple[Symbol, ...]]]:
    """Lists the words with which a part of the sentence can begin.

    Args:
        due: the part that comes next. What is due after it has no say.

    Returns:
        For each word its probability and the parts due, in order, after it and
        before whatever was due already.

    Raises:
        ValueError: if the grammar has no such part.
    """
    return {
        word: (probability / len(words), then)
        for probability, words, then in _rules(due)
        for word in words
    }


@cache
def _draws(due: Symbol) -> tuple[list[float], list[tuple[str, tuple[Symbol, ...]]]]:
    """The choices as bounds on [0, 1) between (word, parts due after it)."""
    options = choices(due)
    bounds = list(accumulate(p for p, _ in options.values()))
    return bounds[:-1], [(word, then) for word, (_, then) in options.items()]


def generate(n_words: int, seed: int, split: str) -> list[list[str]]:
    """Draws sentences, independent of each other, until there are enough words.

    Args:
        n_words: the least number of words, ends of sentences not counted.
        seed: 0 or more; the same on every machine.
        split: name of the part of the corpus; each has a stream of its own.

    Returns:
        The sentences, each a list of words without the end.

    Raises:
        ValueError: if the seed is negative.
    """
    rng = np.random.Generator(np.random.PCG64([seed, *split.encode()]))
    sentences = []
    while n_words > 0:
        sentence, stack = [], [*reversed(START)]
        while stack:
            bounds, options = _draws(stack.pop())
            word, then = options[bisect(bounds, rng.random())]
            sentence.append(word)
            stack.extend(reversed(then))
        sentences.append(sentence[:-1])
        n_words -= len(sentences[-1])
    return sentences


def _read(sentence: Sequence[str]) -> Iterator[tuple[float, int | None]]:
    """Yields (log-probability, decider) of each word and of the end."""
    # Beside each part due stands the position of the word which set its mark.
    stack = [(due, 0) for due in reversed(START)]
    for position, word in enumerate([*sentence, EOS]):
        due, since = stack.pop() if stack else (None, 0)
        if due is None or word not in choices(due):
            raise ValueError(f"word {position}, {word!r}, cannot stand there")
        probability, then = choices(due)[word]
        decided = due.mark and word.endswith(due.mark)
        yield math.log(probability), since if decided else None
        # A mark which this word only hands on still comes from the earlier one.
        stack.extend(
            (new, since if new.mark == due.mark else position) for new in reversed(then)
        )


def score(sentence: Sequence[str]) -> list[float]:
    """Computes how likely each word is, given all the words before it.

    Args:
        sentence: the words, without the end.

    Returns:
        The log-probability in nats of each word and, last, of the end:
        len(sentence) + 1 numbers.

    Raises:
        ValueError: if the sentence is not of the language; names the first word
            that cannot stand where it does and its position, counted from 0.
    """
    return [log_probability for log_probability, _ in _read(sentence)]


def deciders(sentence: Sequence[str]) -> list[int | None]:
    """Finds the earlier word on which each word depends.

    Args:
        sentence: the words, without the end.

    Returns:
        For each word and, last, for the end: the position, counted from 0, of the
        subject of a verb or the opening of a closing bracket; None for all others.

    Raises:
        ValueError: as for `score`.
    """
    return [decider for _, decider in _read(sentence)]


def floor_perplexity(sentences: Sequence[Sequence[str]]) -> float:
    """Computes the perplexity of a model which knows the language.

    Args:
        sentences: the text, at least one sentence, each without its end.

    Returns:
        exp of minus the mean log-probability over all words and ends.

    Raises:
        ValueError: as for `score`.
    """
    scores = [s for sentence in sentences for s in score(sentence)]
    return math.exp(-math.fsum(scores) / len(scores))


def write(
    folder: Path,
    seed: int = 3435,
    n_train: int = 200_000,
    n_valid: int = 20_000,
    n_test: int = 20_000,
) -> None:
    """Writes train.txt, valid.txt and test.txt, each whole or not at all.

    Args:
        folder: where to; made if missing.
        seed: of all three, each of which has a stream of its own.
        n_train: the least number of words of train.txt, and so for the others.
        n_valid: see n_train.
        n_test: see n_train.

    Raises:
        ValueError: if the seed is negative.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for split, n_words in ("train", n_train), ("valid", n_valid), ("test", n_test):
        sentences = generate(n_words, seed, split)
        text = "".join(f" {' '.join(sentence)} \n" for sentence in sentences)
        atomic_io.write(folder / f"{split}.txt", text.encode())


def read(path: Path) -> list[list[str]]:
    """Reads the sentences of a file that `write` wrote, each without its end."""
    return [line.split() for line in path.read_text(encoding="utf-8").splitlines()]

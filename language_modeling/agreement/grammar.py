"""An artificial language whose lowest possible perplexity is known exactly.

The text has the form of the Penn Treebank files of Mikolov: one sentence per line,
words separated by single blanks. Many words are determined by one earlier word, as a
verb is by its subject, so a model that looks back to the right state gains a known
amount.

A noun or verb is a stem and one of 16 endings: 8 classes (-an, -as, ...) times singular
-a or plural -i. A verb takes the ending of its subject. No other word tells that
ending: a noun is the subject of at most one verb, and the nouns in between have endings
of their own. Likewise a bracket `(ka` is closed by `ka)`; there are 8 kinds. All words
of one category are equally likely. Below, |e is an ending, d > 0 bounds the nesting,
and the numbers are the probabilities of the alternatives (a bracket closes after each
of its adjectives with probability 0.5):

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

Two sentences, each verb (stems pes, rav, sut, tig, vol, zab) with its subject's ending:

    fumila quo gilasi luwix ravasi nawix zabila
    hapoki (ba konko nunko ba) kra munasi ravoki mo lekiri nawix pesiri

The alternatives begin with different words, so each text has one parse, and the
probability of each word given all words before it follows from the table. The
perplexity of the language, ends of sentences included, is 25.11: no model does better
on a long text. A model that knows the table, but for endings and brackets sees only the
previous word, reaches about 43.
"""

import math
from bisect import bisect
from functools import cache
from itertools import accumulate
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
    """A symbol of the grammar: a left side of the table.

    Attributes:
        part: its name.
        mark: ending of the verb, or closing bracket, that it must produce; "" for none.
        depth: how many more levels it may nest, or adjectives it may take.
    """

    part: str
    mark: str = ""
    depth: int = 0


CLAUSE = Symbol("clause", "", 2)
START = (CLAUSE, Symbol("more"))  # a sentence


def _rules(symbol):
    """The table: (probability, words to take one of, symbols after it)."""
    match symbol:
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
            return [(0.6, [EOS], ()), (0.4, ["mo"], (CLAUSE, Symbol("end")))]
        case Symbol("end"):
            return [(1, [EOS], ())]
    raise ValueError(f"the grammar has no {symbol}")


@cache
def choices(symbol):
    """The words with which a symbol can begin, and what follows each of them.

    Returns:
        Dict from word to its probability and the symbols that follow it.
    """
    return {
        word: (probability / len(words), then)
        for probability, words, then in _rules(symbol)
        for word in words
    }


@cache
def _cumulative(symbol):
    """The choices as cumulative probabilities and `(word, symbols after it)`."""
    options = choices(symbol)
    bounds = list(accumulate(p for p, _ in options.values()))
    return bounds[:-1], [(word, then) for word, (_, then) in options.items()]


def generate(n_words, seed, split):
    """Draws independent sentences.

    Args:
        n_words: draw until there are so many words, ends of sentences not counted.
        seed: 0 or more.
        split: name of the split; each has its own random stream.

    Returns:
        The sentences, each a list of words without the end.
    """
    rng = np.random.Generator(np.random.PCG64([seed, *split.encode()]))
    sentences = []
    while n_words > 0:
        sentence, stack = [], [*reversed(START)]
        while stack:
            bounds, options = _cumulative(stack.pop())
            word, then = options[bisect(bounds, rng.random())]
            sentence.append(word)
            stack.extend(reversed(then))
        sentences.append(sentence[:-1])
        n_words -= len(sentences[-1])
    return sentences


def _read(sentence):
    """Yields (log-probability, decider) of each word and of the end."""
    # With each symbol, the position of the word that set its mark.
    stack = [(symbol, 0) for symbol in reversed(START)]
    for position, word in enumerate([*sentence, EOS]):
        symbol, marked_at = stack.pop() if stack else (None, 0)
        if symbol is None or word not in choices(symbol):
            raise ValueError(f"word {position}, {word!r}, is not grammatical there")
        probability, then = choices(symbol)[word]
        decided = symbol.mark and word.endswith(symbol.mark)
        yield math.log(probability), marked_at if decided else None
        stack.extend(
            (new, marked_at if new.mark == symbol.mark else position)
            for new in reversed(then)
        )


def score(sentence):
    """The log-probability of each word given all words before it.

    Args:
        sentence: the words, without the end.

    Returns:
        len(sentence) + 1 numbers in nats, the last for the end.

    Raises:
        ValueError: the sentence is not grammatical; names the first wrong word and its
            position, counted from 0.
    """
    return [log_probability for log_probability, _ in _read(sentence)]


def deciders(sentence):
    """The position of the earlier word that determines each word.

    That is the subject of a verb and the opening of a closing bracket; None for all
    other words and for the end. Arguments and errors are those of `score`.
    """
    return [decider for _, decider in _read(sentence)]


def floor_perplexity(sentences):
    """The perplexity of a model that knows the grammar; see `score`."""
    scores = [s for sentence in sentences for s in score(sentence)]
    return math.exp(-math.fsum(scores) / len(scores))


def write(folder, seed=3435, n_train=200_000, n_valid=20_000, n_test=20_000):
    """Writes train.txt, valid.txt and test.txt atomically; see `generate`."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, n_words in ("train", n_train), ("valid", n_valid), ("test", n_test):
        sentences = generate(n_words, seed, split)
        text = "".join(f" {' '.join(sentence)} \n" for sentence in sentences)
        atomic_io.write(folder / f"{split}.txt", text.encode())


def read(path):
    """Reads the sentences of a file that `write` wrote."""
    return [line.split() for line in path.read_text(encoding="utf-8").splitlines()]

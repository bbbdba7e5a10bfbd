"""The agreement grammar: probabilities, entropy, deciders, files."""

import math
import re
from functools import cache

import pytest

from language_modeling.agreement import grammar
from language_modeling.agreement.grammar import (
    EOS,
    START,
    choices,
    deciders,
    floor_perplexity,
    generate,
    score,
    write,
)

NESTED = "fumila quo gilasi luwix ravasi nawix zabila"
BRACKET = "hapoki (ba konko nunko ba) kra munasi ravoki mo lekiri nawix pesiri"


@pytest.fixture(scope="module")
def train():
    return generate(200_000, 3435, "train")


@pytest.fixture(scope="module")
def held_out():
    return generate(20_000, 3435, "test")


def reachable():
    """All symbols of the grammar."""
    found, new = set(), set(START)
    while new:
        found |= new
        new = {t for s in new for _, then in choices(s).values() for t in then}
        new -= found
    return found


@cache
def expected(symbol):
    """Exact expectation of (nats, words) that a symbol produces."""
    nats = words = 0.0
    for p, then in choices(symbol).values():
        nats += p * (-math.log(p) + sum(expected(t)[0] for t in then))
        words += p * (1 + sum(expected(t)[1] for t in then))
    return nats, words


def entropy_rate():
    """Nats per word of the language, ends of sentences included."""
    nats, words = map(sum, zip(*map(expected, START), strict=True))
    return nats / words


def test_probabilities_of_every_symbol_sum_to_one():
    # `choices` is a dict, so this also shows that no word is listed twice.
    symbols = reachable()
    assert len({symbol.part for symbol in symbols}) == 9
    for symbol in symbols:
        probabilities = [p for p, _ in choices(symbol).values()]
        assert min(probabilities) > 0
        assert math.fsum(probabilities) == pytest.approx(1, abs=1e-12), symbol


def test_score_of_a_sentence_by_hand():
    by_hand = [1 / 128, 0.1 / 6, 0.6]  # a noun, a bare verb, the end
    assert score(["bodana", "pesana"]) == pytest.approx([math.log(p) for p in by_hand])
    by_hand = [
        *(1 / 128, 0.2, 1 / 128, 0.2 / 40, 1 / 6),  # fumila quo gilasi luwix ravasi
        *(0.2 / 40, 1 / 6, 0.6),  # nawix zabila, the end
    ]
    assert score(NESTED.split()) == pytest.approx([math.log(p) for p in by_hand])


def test_the_mean_score_of_a_large_text_is_the_exact_entropy_rate(train):
    # A sentence's excess over the rate times its length has mean zero.
    rate = entropy_rate()
    excess = [-math.fsum(score(s)) - rate * (len(s) + 1) for s in train]
    n = len(excess)
    mean = math.fsum(excess) / n
    error = math.sqrt(math.fsum((x - mean) ** 2 for x in excess) / (n - 1) / n)
    assert abs(mean) < 4 * error
    assert 4 * error < 0.01 * expected(START[0])[0]
    assert floor_perplexity(train) == pytest.approx(math.exp(rate), rel=0.01)


def test_the_docstring_states_the_floor_and_shows_grammatical_sentences():
    assert f"included, is {math.exp(entropy_rate()):.2f}" in grammar.__doc__
    for sentence in NESTED, BRACKET:
        assert f"    {sentence}\n" in grammar.__doc__
        score(sentence.split())


@pytest.mark.parametrize(
    ("sentence", "position"),
    [
        ("fumila quo gilasi luwix ravasi nawix zabili", 6),  # wrong number
        ("fumila quo gilasi luwix ravasi nawix zabasa", 6),  # wrong class
        ("fumila quo gilasi luwix ravila nawix zabasi", 4),  # subjects swapped
        ("hapoki (ba konko ka) ravoki", 3),  # another kind of bracket
        ("hapoki (ba ba) ravoki", 2),  # an empty one
        ("hapoki (ba konko ravoki", 3),  # not closed
        ("hapoki ravoki ba)", 2),  # closed without being open
        ("hapoki", 1),  # no verb
        ("", 0),
        ("hapoki ravoki mo", 3),
        ("hapoki ravoki <eos>", 3),  # the end must not be given
        ("hapoki xyzzy", 1),
    ],
)
def test_an_ungrammatical_word_is_named(sentence, position):
    words = sentence.split()
    word = [*words, EOS][position]
    for function in score, deciders:
        with pytest.raises(ValueError, match=re.escape(f"word {position}, {word!r}")):
            function(words)


def test_deciders_are_the_subject_and_the_opening_bracket():
    #                          fumila quo  gilasi luwix ravasi nawix zabila end
    assert deciders(NESTED.split()) == [None, None, None, None, 2, None, 0, None]
    assert deciders(BRACKET.split()) == [
        *(None, None, None, None, 1),  # hapoki (ba konko nunko ba)
        *(None, None, 0, None),  # kra munasi ravoki mo
        *(None, None, 9, None),  # lekiri nawix pesiri, the end
    ]


def test_every_verb_and_closing_bracket_has_its_decider(held_out):
    verbs = {verb for forms in grammar.VERBS.values() for verb in forms}
    for sentence in held_out:
        for word, decider in zip(sentence, deciders(sentence)[:-1], strict=True):
            assert (decider is not None) == (word in verbs or word[-1] == ")")
            if word in verbs:
                assert sentence[decider][3:] == word[3:]
            elif decider is not None:
                assert sentence[decider] == "(" + word[:-1]


def test_seed_and_split_determine_the_text():
    text = generate(1000, 1, "train")
    assert sum(map(len, text[:-1])) < 1000 <= sum(map(len, text))
    assert generate(1000, 1, "train") == text
    assert generate(1000, 2, "train") != text
    assert generate(1000, 1, "test") != text
    assert generate(2000, 1, "train")[: len(text)] == text


def test_the_text_is_the_same_on_every_machine():
    first = (
        "fumili quo gilasi luwix ravasi mewix zabili mo fumasa kra munoka glu muniri"
    )
    assert " ".join(generate(1, 3435, "train")[0]) == first + " ravasa"


def test_written_files_read_back(tmp_path):
    sizes = {"train": 2000, "valid": 300, "test": 200}
    write(tmp_path / "a" / "b", 7, *sizes.values())
    for split, n_words in sizes.items():
        text = (tmp_path / "a" / "b" / f"{split}.txt").read_text()
        sentences = generate(n_words, 7, split)
        assert text == "".join(f" {' '.join(sentence)} \n" for sentence in sentences)
        assert grammar.read(tmp_path / "a" / "b" / f"{split}.txt") == sentences


def test_a_model_that_does_not_look_back_is_far_above_the_floor(held_out):
    # Without a decider two or more words back it has to guess among 16 endings of a
    # verb or 8 kinds of bracket, all equally likely.
    losses = []
    for sentence in held_out:
        for i, (log_p, decider) in enumerate(
            zip(score(sentence), deciders(sentence), strict=True)
        ):
            forgotten = decider is not None and i - decider >= 2
            kinds = 8 if forgotten and sentence[i][-1] == ")" else 16
            losses.append(-log_p + (math.log(kinds) if forgotten else 0))
    blind = math.exp(math.fsum(losses) / len(losses))
    assert blind > 1.6 * floor_perplexity(held_out)  # 42.9 against 25.2

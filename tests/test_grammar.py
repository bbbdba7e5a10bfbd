"""The invented language is what its table says, and its floor is a floor."""

import math
import os
import re
from collections import Counter
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
    """Every part of a sentence that can ever be due."""
    found, new = set(), set(START)
    while new:
        found |= new
        new = {t for due in new for _, then in choices(due).values() for t in then}
        new -= found
    return found


@cache
def expected(due):
    """Exact expectation of (nats, words) spent on `due`, from the choices alone."""
    nats = words = 0.0
    for p, then in choices(due).values():
        nats += p * (-math.log(p) + sum(expected(t)[0] for t in then))
        words += p * (1 + sum(expected(t)[1] for t in then))
    return nats, words


def entropy_rate():
    """Nats per word of the language, ends of sentences included."""
    nats, words = map(sum, zip(*map(expected, START), strict=True))
    return nats / words


@cache
def longest(due):
    """Most words that `due` can become."""
    return max(1 + sum(map(longest, then)) for _, then in choices(due).values())


def test_probabilities_of_every_reachable_part_sum_to_one():
    # `choices` is a dict: a word listed twice would lose its first probability
    # and the sum would fall short, so this also says that the words are distinct.
    parts = reachable()
    assert len({due.part for due in parts}) == 9
    for due in parts:
        probabilities = [p for p, _ in choices(due).values()]
        assert min(probabilities) > 0
        assert math.fsum(probabilities) == pytest.approx(1, abs=1e-12), due


def test_unknown_part_is_refused():
    with pytest.raises(ValueError, match="no part"):
        choices(grammar.Symbol("adjunct"))


def test_score_of_a_sentence_by_hand():
    by_hand = [1 / 128, 0.1 / 6, 0.6]  # a noun, a bare verb, the end
    assert score(["bodana", "pesana"]) == pytest.approx([math.log(p) for p in by_hand])
    by_hand = [
        *(1 / 128, 0.2, 1 / 128, 0.2 / 40, 1 / 6),  # fumila quo gilasi luwix ravasi
        *(0.2 / 40, 1 / 6, 0.6),  # nawix zabila, the end
    ]
    assert score(NESTED.split()) == pytest.approx([math.log(p) for p in by_hand])


def test_mean_score_of_a_large_text_is_the_exact_entropy_rate(train):
    # The excess of each sentence over the rate times its length has mean zero.
    rate = entropy_rate()
    excess = [-math.fsum(score(s)) - rate * (len(s) + 1) for s in train]
    n = len(excess)
    mean = math.fsum(excess) / n
    error = math.sqrt(math.fsum((x - mean) ** 2 for x in excess) / (n - 1) / n)
    assert abs(mean) < 4 * error
    assert 4 * error < 0.01 * expected(START[0])[0]  # sharp enough to mean something
    assert floor_perplexity(train) == pytest.approx(math.exp(rate), rel=0.01)


def test_docstring_states_the_floor_and_shows_sentences_of_the_language():
    assert f"included, is {math.exp(entropy_rate()):.2f}" in grammar.__doc__
    for sentence in NESTED, BRACKET:
        assert f"    {sentence}\n" in grammar.__doc__
        score(sentence.split())


def test_words_occur_as_often_as_their_probability_says(train):
    # The first word of a sentence is one of 128 nouns, each as likely.
    counts = Counter(s[0] for s in train)
    mean = len(train) / 128
    chi2 = sum((c - mean) ** 2 / mean for c in counts.values())
    assert len(counts) == 128
    assert abs(chi2 - 127) < 4 * math.sqrt(2 * 127)


def test_shape_of_the_text(train):
    lengths = [len(s) for s in train]
    assert 200_000 <= sum(lengths) < 200_000 + max(lengths)
    assert 8 <= sum(lengths) / len(lengths) <= 14
    assert max(lengths) <= sum(map(longest, START)) - 1 == 35


def test_every_word_is_learnt_from_the_training_text(train):
    vocabulary = {word for due in reachable() for word in choices(due)} - {EOS}
    counts = Counter(word for s in train for word in s)
    assert set(counts) == vocabulary
    assert 300 <= len(vocabulary) <= 400
    assert min(counts.values()) >= 100


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
        ("hapoki ravoki <eos>", 3),  # the end is not to be given
        ("hapoki xyzzy", 1),
    ],
)
def test_text_of_another_language_is_refused_where_it_goes_wrong(sentence, position):
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


def test_many_words_are_decided_from_afar(held_out):
    distances = [
        position - decider
        for sentence in held_out
        for position, decider in enumerate(deciders(sentence))
        if decider is not None
    ]
    n_scores = sum(len(s) + 1 for s in held_out)
    assert sum(d >= 2 for d in distances) > 0.15 * n_scores
    assert sum(2 <= d <= 6 for d in distances) > 0.6 * len(distances)


def test_same_seed_and_split_give_the_same_text_and_others_do_not():
    text = generate(1000, 1, "train")
    assert generate(1000, 1, "train") == text
    assert generate(1000, 2, "train") != text
    assert generate(1000, 1, "test") != text
    assert generate(2000, 1, "train")[: len(text)] == text


def test_text_is_the_same_on_every_machine():
    first = (
        "fumili quo gilasi luwix ravasi mewix zabili mo fumasa kra munoka glu muniri"
    )
    assert " ".join(generate(1, 3435, "train")[0]) == first + " ravasa"


def test_generate_stops_at_the_sentence_that_fills_the_count():
    assert generate(0, 1, "train") == []
    text = generate(1000, 1, "train")
    assert sum(map(len, text[:-1])) < 1000 <= sum(map(len, text))


def test_negative_seed_is_refused():
    with pytest.raises(ValueError):
        generate(1, -1, "train")


def test_written_files_read_back_and_are_the_same_twice(tmp_path):
    sizes = {"train": 2000, "valid": 300, "test": 200}
    for folder in tmp_path / "a" / "b", tmp_path / "c":
        write(folder, 7, *sizes.values())
        assert {f.name for f in folder.iterdir()} == {f"{s}.txt" for s in sizes}
    for split, n_words in sizes.items():
        data = (tmp_path / "c" / f"{split}.txt").read_bytes()
        assert data == (tmp_path / "a" / "b" / f"{split}.txt").read_bytes()
        lines = data.decode().split("\n")
        assert lines.pop() == ""
        sentences = generate(n_words, 7, split)
        assert [line.split() for line in lines] == sentences
        assert lines[0] == " " + " ".join(sentences[0]) + " "


def test_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    write(tmp_path, 1, 100, 100, 100)
    before = (tmp_path / "train.txt").read_bytes()

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write(tmp_path, 2, 100, 100, 100)
    assert (tmp_path / "train.txt").read_bytes() == before


def test_bigrams_stay_far_above_the_floor(train, held_out):
    def pairs(text):
        for sentence in text:
            yield from zip([EOS, *sentence], [*sentence, EOS], strict=True)

    both = Counter(pairs(train))
    before = Counter(first for first, _ in pairs(train))
    size = len(before)  # every word, and the end
    losses = [
        -math.log((both[pair] + 1) / (before[pair[0]] + size))
        for pair in pairs(held_out)
    ]
    perplexity = math.exp(math.fsum(losses) / len(losses))
    assert perplexity > 2.5 * floor_perplexity(held_out)  # 74.6 against 25.2


def test_not_looking_back_is_costly_even_with_the_grammar_known(held_out):
    # Who forgets the decider two or more words back has to guess: 16 endings of
    # a verb and 8 kinds of bracket, all as likely.
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

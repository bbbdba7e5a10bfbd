"""The examples: they read what their --help describes, and train on what they make."""

import os
import pickle
import re

import numpy as np
import pytest
import small
from examples import corpora, tagging

from tests.stress import programs

EXAMPLES = programs.ROOT / "scripts" / "examples"
SENTIMENT, TAGGING = EXAMPLES / "sentiment.py", EXAMPLES / "tagging.py"
TINY = {
    SENTIMENT: ("--n_texts=50", "--units=4", "--epochs=1"),
    TAGGING: ("--n_sentences=40", "--units=4", "--epochs=1"),
}
CONLL = """-DOCSTART- -X- O

Ann NNP B-PER
Lee NNP I-PER
left VB O

Rome NN I-LOC

"""

# Of TensorFlow, about `eagerly`.
pytestmark = pytest.mark.filterwarnings("ignore:Even though the .tf.config")


def scores(result):
    """Dict from model to the score in per cent, from the table that ends the output."""
    heading = max(n for n, line in enumerate(result.out) if line.startswith("model "))
    rows = [line.split() for line in result.out[heading + 1 :]]
    return {name: float(score.rstrip("%")) for name, score, _ in rows}


def write_texts(folder, **texts):
    """One file for each text, in subfolders whose `/` is written as `_`."""
    for name, contents in texts.items():
        place = folder / name.replace("_", "/")
        place.mkdir(parents=True)
        for n, text in enumerate(contents):
            (place / f"{n}.txt").write_text(text)


def npz(path, x=((0, 3, 4), (0, 0, 5)), y=(1, 0)):
    np.savez(path, x_train=x, y_train=y, x_test=x, y_test=y)
    return path


# The data


def test_texts_are_read_from_train_and_test(tmp_path, rng):
    write_texts(
        tmp_path, train_pos=["So GOOD!"], train_neg=["don't", "bad"], test_pos=["yes"]
    )
    write_texts(tmp_path, test_neg=["no"])
    train, test = corpora.read_texts(tmp_path, rng)
    assert sorted(train) == [(["bad"], 0), (["don't"], 0), (["so", "good", "!"], 1)]
    assert sorted(test) == [(["no"], 0), (["yes"], 1)]


def test_a_fifth_of_the_texts_is_held_out_if_there_is_no_test_set(tmp_path, rng):
    write_texts(tmp_path, pos=map(str, range(10)), neg=map(str, range(10, 20)))
    train, test = corpora.read_texts(tmp_path, rng)
    assert len(test) == 4
    expected = [([str(n)], int(n < 10)) for n in range(20)]
    assert sorted(train + test) == sorted(expected)


def test_texts_are_read_from_an_npz(tmp_path, rng):
    train, test = corpora.read_texts(npz(tmp_path / "imdb.npz"), rng)
    assert sorted(train) == sorted(test) == [([3, 4], 1), ([5], 0)]


def test_sentences_are_read_from_conll_columns(tmp_path):
    path = tmp_path / "train.txt"
    path.write_text(CONLL)
    assert corpora.read_sentences(path) == [
        (["Ann", "Lee", "left"], ["B-PER", "I-PER", "O"]),
        (["Rome"], ["I-LOC"]),
    ]


def test_vectors_are_those_of_the_word_or_of_its_lower_case(tmp_path):
    path = tmp_path / "glove.txt"
    path.write_text("rome 1 2\n. . 3 4\nAnn 5 6\nother 7 8\n")
    found = corpora.read_vectors(path, {"Rome", "Ann", "missing"})
    assert {word: [*vector] for word, vector in found.items()} == {
        "Rome": [1, 2],
        "Ann": [5, 6],
    }


def test_words_with_a_vector_or_that_occur_twice_are_known(tmp_path, rng):
    path = tmp_path / "glove.txt"
    path.write_text("new 1 2\n")
    train, test = [(["a", "a", "b"], "OOO")], [(["new", "c"], "OO")]
    ids, vectors = corpora.known_words(train, train + test, path, rng)
    assert ids == {"a": 2, "new": 3}
    assert vectors.shape == (4, 2) and [*vectors[3]] == [1, 2]
    assert corpora.known_words(train, train + test, None, rng) == ({"a": 2}, None)


@pytest.mark.parametrize(
    "generate", [corpora.generate_texts, corpora.generate_sentences]
)
def test_the_first_word_decides_in_generated_data(generate, rng):
    data = generate(100, rng)
    for words, label in data:
        if generate is corpora.generate_texts:
            assert words[0].startswith(("bad", "good")[label])
        else:
            assert {kind for *_, kind in corpora.entities(label)} <= {words[0][6:]}
    assert data == generate(100, np.random.default_rng(3435))


# Entities


@pytest.mark.parametrize(
    ("tags", "expected", "bioes"),
    [
        ("O B-X I-X I-X O", {(1, 4, "X")}, "O B-X I-X E-X O"),
        ("I-X I-X B-X I-Y", {(0, 2, "X"), (2, 3, "X"), (3, 4, "Y")}, "B-X E-X S-X S-Y"),
        ("S-X S-X B-X E-X", {(0, 1, "X"), (1, 2, "X"), (2, 4, "X")}, None),
        ("E-X I-X O", {(0, 1, "X"), (1, 2, "X")}, "S-X S-X O"),
        ("O O", set(), None),
    ],
    ids=["IOB2", "IOB1", "BIOES", "inconsistent", "none"],
)
def test_entities_of_tags(tags, expected, bioes):
    assert corpora.entities(tags.split()) == expected
    assert corpora.to_bioes(tags.split()) == (bioes or tags).split()


def test_f1_counts_entities_with_the_exact_span_and_type():
    expected = [["B-X", "E-X", "O", "S-Y"], ["S-X", "O"], ["S-X"]]
    predicted = [
        ["B-X", "E-X", "O", "S-X", "O"],  # one right, one of another type
        ["B-X", "E-X", "S-X", "S-X"],  # another span; padding is ignored
        ["S-X"],
    ]
    # 2 of 4 are right, and 4 are found.
    assert tagging.f1(expected, predicted) == 2 * 2 / (4 + 4)
    assert tagging.f1(expected, expected) == 1.0
    assert tagging.f1([["O"]], [["O"]]) == 0.0


# The programs


@pytest.mark.parametrize(
    "script",
    [SENTIMENT, pytest.param(TAGGING, marks=pytest.mark.slow)],
    ids=lambda path: path.stem,
)
def test_an_example_ends_with_a_score_for_each_model(script, eagerly, call, tmp_path):
    result = small.succeeds(call(tmp_path, script, *TINY[script]))
    assert [*scores(result)] == ["lstm", "dsc"]
    assert all(0 <= score <= 100 for score in scores(result).values())
    assert result.err == []


def test_own_texts_are_classified(eagerly, call, tmp_path):
    write_texts(tmp_path / "own", pos=["good film"] * 5, neg=["bad", "", "bad film"])
    flags = (*TINY[SENTIMENT], "--data=own", "--model=dsc")
    assert [*scores(small.succeeds(call(tmp_path, SENTIMENT, *flags)))] == ["dsc"]


def test_own_sentences_are_tagged(eagerly, call, tmp_path):
    for split in ("train", "valid", "test"):
        (tmp_path / f"{split}.txt").write_text(CONLL)
    (tmp_path / "glove.txt").write_text("rome 1 2 3\nann 4 5 6\n")
    flags = (*TINY[TAGGING], "--data=.", "--glove=glove.txt", "--model=lstm")
    assert [*scores(small.succeeds(call(tmp_path, TAGGING, *flags)))] == ["lstm"]


class Harmful:
    def __reduce__(self):
        return os.getcwd, (1, 2)  # raises TypeError


@pytest.mark.parametrize(
    ("script", "make", "flag", "message"),
    [
        (
            SENTIMENT,
            {},
            "--data=none",
            r"none: cannot be read \(No such",
        ),
        (SENTIMENT, {"pos/a.txt": "a"}, "--data=.", r"neg: there are no .txt files"),
        (SENTIMENT, {"x.npz": "text"}, "--data=x.npz", r"x.npz: cannot be read"),
        (SENTIMENT, {"x.npz": pickle.dumps(Harmful())}, "--data=x.npz", "cannot be"),
        (SENTIMENT, {"x.npz": [[1], [2]]}, "--data=x.npz", r"y_train needs labels"),
        (SENTIMENT, {"x.npz": [0.5, 2.0]}, "--data=x.npz", r"x_train needs word ids"),
        (
            SENTIMENT,
            {"pos/a.txt": "a", "neg/a.txt": "a"},
            "--data=.",
            r"too few texts to train on",
        ),
        (TAGGING, {}, "--data=none", r"none/train.txt: cannot be read \(No such"),
        (TAGGING, {"train.txt": "\n"}, "--data=.", r"train.txt: there are no sent"),
        (
            TAGGING,
            {"train.txt": "a O\n\nb\n"},
            "--data=.",
            r"train.txt, line 3: the word b has no tag",
        ),
        (TAGGING, {"train.txt": b"\xff O\n"}, "--data=.", r"train.txt: cannot be read"),
        (TAGGING, {"v": "word1 1\nword2 x\n"}, "--glove=v", r"line 2: expected a word"),
        (TAGGING, {"v": "other 1\n"}, "--glove=v", r"v: has no vector of any word"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(
    script, make, flag, message, call, tmp_path
):
    for name, content in make.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        if isinstance(content, list):
            npz(path, content, (0, 2))
        else:
            path.write_bytes(content.encode() if isinstance(content, str) else content)
    result = call(tmp_path, script, flag)
    assert result.code == 1
    (line,) = result.err
    assert re.search(message, line), line


# The claims


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "least"), [(SENTIMENT, 90.0), (TAGGING, 97.0)], ids=["text", "tags"]
)
def test_dsc_is_as_good_as_the_lstm_on_the_generated_data(script, least, tmp_path):
    found = scores(small.succeeds(programs.run(tmp_path / "run", script)))
    assert found["dsc"] >= max(found["lstm"] - 1.0, least)

"""A trained model from the command line: what each --mode does with it."""

import math
import re

import processes
import pytest
from processes import LANGUAGE

from language_modeling import agreement

SMALL = ("--rnn_size=8", "--rnn_layers=1", "--agent_units=5", "--batch_size=4")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a `corpus` and a `run` that was trained on it."""
    folder = tmp_path_factory.mktemp("modes")
    agreement.write(folder / "corpus", seed=3, n_train=600, n_valid=150, n_test=140)
    (folder / "strange.txt").write_text("xyzzy")
    use(
        folder,
        *("--data_dir=corpus", "--train_dir=run", "--max_epochs=1"),
        *("--num_unroll_steps=6", *SMALL),
        load=(),
    )
    return folder


def use(folder, *arguments, load=("--load_model=run",), code=0):
    result = processes.run(folder, LANGUAGE, *load, *arguments, timeout=60)
    assert result.code == code, result
    return result


def known_words(folder, split):
    """The words of a split that the training file has, ends of lines among them."""
    train = (folder / "corpus" / "train.txt").read_text().split()
    text = (folder / "corpus" / f"{split}.txt").read_text()
    words = text.replace("\n", " <eos> ").split()
    return [word for word in words if word in {*train, "<eos>"}]


def tsv(result):
    header, *rows = (line.split("\t") for line in result.out)
    assert header == ["word", "read_as", "log_prob", "skip"]
    return rows


def test_scoring_a_text_gives_the_perplexity_of_evaluating_it(folder):
    evaluated = use(
        folder, "--data_dir=corpus", "--mode=evaluate", "--batch_size=1", "--score_tail"
    )
    scored = use(folder, "--mode=score", "--input=corpus/test.txt")
    assert re.fullmatch(r"perplexity = \d+\.\d{6}", scored.err[-1])
    assert evaluated.out[-1] == f"test {scored.err[-1]}"
    rows = tsv(scored)
    assert [row[0] for row in rows] == known_words(folder, "test")
    log_probs = [float(row[2]) for row in rows[1:]]
    mean = math.fsum(log_probs) / len(log_probs)
    assert math.exp(-mean) == pytest.approx(float(scored.err[-1].split()[-1]), rel=1e-5)


def test_unknown_words_are_reported_and_read_as_the_user_wants(folder):
    path = folder / "unknown.txt"
    noun = known_words(folder, "train")[0]
    path.write_text(f"{noun} xyzzy {noun}\n")
    dropped = use(folder, "--mode=score", "--input=unknown.txt")
    assert [row[0] for row in tsv(dropped)] == [noun, noun, "<eos>"]
    assert "Words that the model does not know, dropped: 1." in dropped.err
    refused = use(
        folder, "--mode=score", "--input=unknown.txt", "--unknown=unk", code=1
    )
    assert refused.err == [
        "--unknown unk: the model has no word <unk>; give --unknown drop."
    ]
    refused = use(
        folder, "--mode=score", "--input=unknown.txt", "--unknown=error", code=1
    )
    assert refused.err == [
        "--unknown error: the model does not know the word 'xyzzy'; give --unknown "
        "drop or unk."
    ]


def test_sentences_are_shown_with_the_skip_below_each_word(folder):
    result = use(folder, "--mode=visualize", "--data_dir=corpus", "--sentences=3")
    shown = [line for line in result.out if line]
    words, skips = shown[::2], shown[1::2]
    printed = " ".join(words).split()
    assert printed == known_words(folder, "valid")[: len(printed)]
    assert printed.count("<eos>") == 3
    for upper, lower in zip(words, skips, strict=True):
        assert len(upper) <= 88
        assert [m.start() for m in re.finditer(r"\S+", upper)] == [
            m.start() for m in re.finditer(r"[1-5-]", lower)
        ]
    scored = tsv(use(folder, "--mode=score", "--input=corpus/valid.txt"))
    told = [row[3].replace("0", "-") for row in scored]
    assert " ".join(skips).split() == told[: len(" ".join(skips).split())]


def test_generated_text_continues_the_prompt_and_repeats_with_the_seed(folder):
    noun = known_words(folder, "train")[0]
    arguments = ("--mode=generate", f"--prompt={noun} xyzzy", "--n_words=40")
    result = use(folder, *arguments)
    assert result.out[0].startswith(noun)
    assert result.err == ["Words that the model does not know, dropped: 1."]
    text = (folder / "corpus" / "train.txt").read_text()
    words = [w for line in result.out for w in line.split()]
    assert set(words) <= set(text.split())
    ends = len(result.out) - 1  # what is last in a line is an end, or the last word
    assert len(words) - 1 + ends in (40, 39)
    assert use(folder, *arguments).out == result.out
    assert use(folder, *arguments, "--seed=7").out != result.out


REFUSED = {
    "a mode without a model": (
        ["--mode=score"],
        r".*--mode needs a trained model: give the folder of a run with --load_model",
    ),
    "a missing text": (
        ["--load_model=run", "--mode=score", "--input=gone"],
        r"gone cannot be read: .*No such file or directory.*",
    ),
    "a text without words": (
        ["--load_model=run", "--mode=score", "--input=/dev/null"],
        r"/dev/null has no words in it; put text there, line by line\.",
    ),
    "a text without words that are known": (
        ["--load_model=run", "--mode=score", "--input=strange.txt", "--unknown=drop"],
        r"--input: there is no word after the first that the model knows, so nothing "
        r"to score; give more text\.",
    ),
    "no number of words": (
        ["--load_model=run", "--mode=generate", "--n_words=0"],
        r".*flag --n_words=0: 0 is not >= 1|.*n_words.*",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_one_sentence_says_what_is_wrong(folder, case):
    arguments, sentence = REFUSED[case]
    result = use(folder, *arguments, load=(), code=1)
    told = "Words that the model does not know, dropped: 1."
    (line,) = (line for line in result.err if line != told)
    assert re.fullmatch(rf"{sentence}(; --help lists the flags\.)?", line), line

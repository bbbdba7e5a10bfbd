"""A trained model from the command line: what each --mode does with it."""

import math
import re

import pytest

from language_modeling.agreement import grammar
from tests.stress import programs
from tests.stress.programs import LANGUAGE

SMALL = ("--rnn_size=8", "--rnn_layers=1", "--agent_units=5", "--batch_size=4")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a `corpus` and a `run` that was trained on it."""
    folder = tmp_path_factory.mktemp("modes")
    grammar.write(folder / "corpus", seed=3, n_train=600, n_valid=150, n_test=140)
    (folder / "strange.txt").write_text("xyzzy")
    use(
        folder,
        *("--data_dir=corpus", "--train_dir=run", "--max_epochs=1"),
        *("--num_unroll_steps=6", *SMALL),
        load=(),
    )
    return folder


def use(folder, *arguments, load=("--load_model=run",), code=0):
    result = programs.run(folder, LANGUAGE, *load, *arguments, timeout=60)
    assert result.code == code, result
    return result


def words_of(folder, split):
    """The words of a split, ends of lines among them."""
    text = (folder / "corpus" / f"{split}.txt").read_text()
    return text.replace("\n", " <eos> ").split()


def known_words(folder, split):
    """Those that the training file has."""
    known = {*words_of(folder, "train")}
    return [word for word in words_of(folder, split) if word in known]


def tsv(result):
    header, *rows = (line.split("\t") for line in result.out)
    assert header == ["word", "read_as", "log_prob", "skip"]
    return rows


def test_scoring_a_text_gives_the_perplexity_of_evaluating_it(folder):
    # Of the run's own corpus, whose place it knows.
    evaluated = use(folder, "--mode=evaluate", "--batch_size=1", "--score_tail")
    scored = use(folder, "--mode=score", "--input=corpus/test.txt")
    assert re.fullmatch(r"perplexity = \d+\.\d{6}", scored.err[-1])
    assert evaluated.out[-1] == f"test {scored.err[-1]}"
    rows = tsv(scored)
    assert [row[0] for row in rows] == words_of(folder, "test")
    read = [row for row in rows if row[1]]
    assert [row[1] for row in read] == known_words(folder, "test")
    dropped = [row[1:] for row in rows if not row[1]]
    assert dropped == [["", "", ""]] * (len(rows) - len(read)) != []
    log_probs = [float(row[2]) for row in read[1:]]
    mean = math.fsum(log_probs) / len(log_probs)
    assert math.exp(-mean) == pytest.approx(float(scored.err[-1].split()[-1]), rel=1e-5)


def test_unknown_words_are_reported_and_read_as_the_user_wants(folder):
    path = folder / "unknown.txt"
    noun = known_words(folder, "train")[0]
    path.write_text(f"{noun} xyzzy {noun}\n")
    dropped = use(folder, "--mode=score", "--input=unknown.txt")
    rows = tsv(dropped)
    assert [row[0] for row in rows] == [noun, "xyzzy", noun, "<eos>"]
    assert [row[1] for row in rows] == [noun, "", noun, "<eos>"]
    assert "Words that the model does not know, dropped: 1." in dropped.err
    refused = use(
        folder, "--mode=score", "--input=unknown.txt", "--unknown=unk", code=1
    )
    assert refused.err == [
        "--unknown unk: the model has no word <unk>; leave the flag out."
    ]
    refused = use(
        folder, "--mode=score", "--input=unknown.txt", "--unknown=error", code=1
    )
    assert refused.err == [
        "--unknown error: the model does not know the word 'xyzzy'; give --unknown "
        "drop or unk."
    ]


def test_sentences_are_shown_with_the_skip_below_each_word(folder):
    result = use(folder, "--mode=visualize", "--sentences=3")
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
    told = [row[3].replace("0", "-") for row in scored if row[1]]
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


def test_a_text_of_one_line_has_no_end_after_which_to_begin(folder):
    (folder / "line").mkdir()
    for split in "train", "valid", "test":
        (folder / "line" / f"{split}.txt").write_text("a b c d " * 20)
    arguments = ("--data_dir=line", "--train_dir=of_a_line", "--max_steps=1")
    use(folder, *arguments, "--num_unroll_steps=6", *SMALL, load=())
    load = ("--load_model=of_a_line", "--mode=generate", "--n_words=5")
    written = use(folder, "--prompt=c", load=load)
    assert len(written.out[0].split()) == 6 and written.out[0].startswith("c ")
    refused = use(folder, load=load, code=1)
    assert refused.err == [
        "--prompt: the model does not know the end of a line, after which a text could "
        "begin; give words that it knows."
    ]
    # A batch of more rows than the training text has windows for is evaluated too.
    load = ("--load_model=of_a_line", "--batch_size=50", "--score_tail")
    assert use(folder, load=load).out[-1].startswith("test perplexity = ")


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
    "another end of a line": (
        ["--load_model=run", "--mode=score", "--EOS=stop"],
        r"--EOS stop does not fit the model in run, which has <eos>; leave the flag .*",
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

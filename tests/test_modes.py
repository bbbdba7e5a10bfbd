"""The modes of a trained language model on the command line."""

import json
import math
import re

import pytest
import small

from tests.stress.programs import LANGUAGE


@pytest.fixture
def use(language_run, call):
    """Runs the script on a trained model and its corpus; returns a `Result`."""

    def run(*arguments, code=0):
        result = call(language_run.run.parent, LANGUAGE, "--load_model=run", *arguments)
        assert result.code == code, result
        return result

    return run


@pytest.fixture
def known(data):
    """The words of a split that are in the training file, ends of lines included."""

    def read(split):
        text = (data / "corpus" / f"{split}.txt").read_text()
        return text.replace("\n", " <eos> ").split()

    train = {*read("train")}
    return lambda split: [word for word in read(split) if word in train]


def tsv(result):
    header, *rows = (line.split("\t") for line in result.out)
    assert header == ["word", "read_as", "log_prob", "skip"]
    return rows


def test_scoring_a_text_gives_the_perplexity_of_evaluating_it(use, data, known):
    evaluated = use("--mode=evaluate", "--batch_size=1", "--score_tail")
    path = data / "corpus" / "test.txt"
    scored = use("--mode=score", f"--input={path}")
    assert re.fullmatch(r"perplexity = \d+\.\d{6}", scored.err[-1])
    assert evaluated.out[-1] == f"test {scored.err[-1]}"
    rows = tsv(scored)
    words = path.read_text().replace("\n", " <eos> ").split()
    assert [row[0] for row in rows] == words
    read = [row for row in rows if row[1]]
    assert [row[1] for row in read] == known("test")
    dropped = [row[1:] for row in rows if not row[1]]
    assert dropped == [["", "", ""]] * (len(rows) - len(read)) != []
    mean = math.fsum(float(row[2]) for row in read[1:]) / (len(read) - 1)
    perplexity = float(scored.err[-1].split()[-1])
    assert math.exp(-mean) == pytest.approx(perplexity, rel=1e-5)


def test_unknown_words_are_dropped_or_refused(use, known, tmp_path):
    path = tmp_path / "unknown.txt"
    noun = known("train")[0]
    path.write_text(f"{noun} xyzzy {noun}\n")
    score = ("--mode=score", f"--input={path}")
    dropped = use(*score)
    read = [(noun, noun), ("xyzzy", ""), (noun, noun), ("<eos>", "<eos>")]
    assert [(row[0], row[1]) for row in tsv(dropped)] == read
    assert "Words that the model does not know, dropped: 1." in dropped.err
    for unknown, said in (
        ("unk", "--unknown unk: the model has no word <unk>; leave the flag out."),
        ("error", "--unknown error: the model does not know the word 'xyzzy'; give "),
    ):
        (line,) = use(*score, f"--unknown={unknown}", code=1).err
        assert line.startswith(said)


def test_sentences_are_printed_with_the_skip_below_each_word(use, data, known):
    result = use("--mode=visualize", "--sentences=3")
    shown = [line for line in result.out if line]
    words, skips = shown[::2], shown[1::2]
    printed = " ".join(words).split()
    assert printed == known("valid")[: len(printed)]
    assert printed.count("<eos>") == 3
    for upper, lower in zip(words, skips, strict=True):
        assert len(upper) <= 88
        assert [m.start() for m in re.finditer(r"\S+", upper)] == [
            m.start() for m in re.finditer(r"[1-5-]", lower)
        ]
    scored = tsv(use("--mode=score", f"--input={data}/corpus/valid.txt"))
    expected = [row[3].replace("0", "-") for row in scored if row[1]]
    assert " ".join(skips).split() == expected[: len(printed)]


def test_generated_text_continues_the_prompt_and_depends_on_the_seed(use, known):
    noun = known("train")[0]
    arguments = ("--mode=generate", f"--prompt={noun} xyzzy", "--n_words=40")
    result = use(*arguments)
    assert result.out[0].startswith(noun)
    assert result.err == ["Words that the model does not know, dropped: 1."]
    words = [word for line in result.out for word in line.split()]
    assert set(words) <= set(known("train"))
    ends = len(result.out) - 1  # each line but maybe the last has an end
    assert len(words) - 1 + ends in (40, 39)
    assert use(*arguments).out == result.out
    assert use(*arguments, "--seed=7").out != result.out


@pytest.mark.slow
def test_a_model_of_characters_is_trained_scored_and_writes_text(call, tmp_path):
    (tmp_path / "corpus").mkdir()
    for split in "train", "valid", "test":
        (tmp_path / "corpus" / f"{split}.txt").write_text("我们 去a_b\n" * 30)
    flags = ("--level=char", "--max_steps=2")
    trained = small.train_language(tmp_path, tmp_path / "corpus", *flags)
    assert "8 characters in the vocabulary" in trained.out[0]
    scores = json.loads((trained.run / "result.json").read_text())["scores"]
    assert [*scores] == ["valid bits per character", "test bits per character"]
    load = ("--load_model=run", "--mode=generate", "--n_words=40")
    (first, *_) = call(tmp_path, LANGUAGE, *load, "--prompt=我们  a_b").out
    assert first.startswith("我们 a_b") and "__" not in first[:7]
    path = tmp_path / "corpus" / "test.txt"
    scored = call(tmp_path, LANGUAGE, *load[:1], "--mode=score", f"--input={path}")
    assert [row[0] for row in tsv(scored)[:9]] == [
        *"我们_去a",
        "__",
        "b",
        "<eos>",
        "我",
    ]
    load = (*load[:1], "--batch_size=1", "--score_tail")
    assert call(tmp_path, LANGUAGE, *load).out[-1] == f"test {scored.err[-1]}"
    (line,) = call(tmp_path, LANGUAGE, *load, "--level=word").err
    assert line.startswith("--level word does not fit the model in run, which has char")


@pytest.mark.slow
def test_a_model_without_ends_of_lines_needs_a_prompt(call, tmp_path):
    (tmp_path / "line").mkdir()
    for split in "train", "valid", "test":
        (tmp_path / "line" / f"{split}.txt").write_text("a b c d " * 20)
    small.train_language(tmp_path, tmp_path / "line", "--max_steps=1")
    load = ("--load_model=run", "--mode=generate", "--n_words=5")
    (written,) = call(tmp_path, LANGUAGE, *load, "--prompt=c").out
    assert len(written.split()) == 6 and written.startswith("c ")
    refused = call(tmp_path, LANGUAGE, *load)
    assert refused.err == [
        "--prompt: the model does not know the end of a line to start after; give "
        "words that it knows."
    ]
    # The training text may be too short for the batch size of an evaluation.
    load = ("--load_model=run", "--batch_size=50", "--score_tail")
    assert call(tmp_path, LANGUAGE, *load).out[-1].startswith("test perplexity = ")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("--mode=score --input=gone", "gone cannot be read: .*No such file.*"),
        (
            "--mode=score --input=/dev/null",
            r"/dev/null has no words in it; write text into it, line by line\.",
        ),
        (
            "--mode=score --input=strange.txt",
            "--input: there is nothing to score, since the model knows fewer than two "
            r"of the words; give more text\.",
        ),
        (
            "--mode=score --EOS=stop",
            "--EOS stop does not fit the model in run, which has <eos>; leave the .*",
        ),
        ("--mode=generate --n_words=0", "flag --n_words=0: 0 is not .*"),
    ],
)
def test_one_sentence_says_what_is_wrong(use, language_run, arguments, sentence):
    (language_run.run.parent / "strange.txt").write_text("xyzzy")
    result = use(*arguments.split(), code=1)
    assert re.fullmatch(rf"{sentence}(; --help lists the flags\.)?", result.err[-1])


def test_a_mode_without_a_model_is_refused(call, tmp_path):
    (line,) = call(tmp_path, LANGUAGE, "--mode=score").err
    assert "--mode needs a trained model: give the folder of a run with " in line

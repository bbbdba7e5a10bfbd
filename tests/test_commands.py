"""The programs, run as a user runs them: what they print, keep and refuse."""

import json
import math
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from language_modeling.agreement import grammar
from number_prediction.produce_data import write as write_digits
from tests.stress import programs
from tests.stress.programs import LANGUAGE, NUMBERS, PRODUCE


def run(folder, script, *arguments):
    """Runs a program in a folder; `{}` in an argument stands for the folder."""
    arguments = (str(argument).format(folder) for argument in arguments)
    return programs.run(folder, script, *arguments)


def succeeds(result):
    assert result.code == 0, result
    return result


WINDOWS = ("--batch_size=4", "--num_unroll_steps=6")
SMALL = ("--rnn_size=8", "--rnn_layers=1", "--agent_units=5", *WINDOWS)


@pytest.fixture(scope="module")
def tmp(tmp_path_factory):
    return tmp_path_factory.mktemp("commands")


@pytest.fixture(scope="module")
def corpus(tmp):
    grammar.write(tmp / "corpus", seed=3, n_train=600, n_valid=150, n_test=140)
    return tmp / "corpus"


def train(tmp, corpus, name, *arguments):
    """Trains a small language model in the folder `tmp/name`, the run in `run`."""
    always = (f"--data_dir={corpus}", "--train_dir=run", "--print_every=5")
    return succeeds(run(tmp / name, LANGUAGE, *SMALL, *always, *arguments))


@pytest.fixture(scope="module")
def trained(tmp, corpus):
    return train(tmp, corpus, "trained", "--max_epochs=2")


@pytest.fixture(scope="module")
def evaluated(tmp, corpus, trained):
    """The trained model, loaded in a new program which has to find out its sizes."""
    arguments = (*WINDOWS, f"--load_model={tmp}/trained/run")
    return succeeds(run(tmp / "evaluated", LANGUAGE, *arguments))


def metrics(folder):
    """The records of a run."""
    lines = (folder / "run" / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def best_weights(run):
    """The file with the best weights of a run."""
    (path,) = (run / "best").iterdir()
    return path


# The language model


NUMBER = r"-?\d+\.\d+"
CLOCK = r"\d+:\d\d"


def test_training_reports_all_that_there_is_to_watch(trained, tmp):
    report = re.compile(
        rf"epoch [12]/2 step \d+/27: loss {NUMBER}, perplexity {NUMBER}, "
        rf"entropy {NUMBER}, \d+ words/s, {CLOCK} left"
    )
    reports = [line for line in trained.out if " step " in line]
    assert [line.split(":")[0] for line in reports] == [
        f"epoch {epoch}/2 step {step}/27"
        for epoch in (1, 2)
        for step in range(5, 26, 5)
    ]
    for line in reports:
        assert report.fullmatch(line) and len(line) <= 100, line
    kept = {"nll", "reward", "rl_loss", "actions", "grad_norm", "learning_rate"}
    assert kept <= set(metrics(tmp / "trained")[0])


def test_training_says_first_what_it_trains_on_what(trained, corpus):
    words = (corpus / "train.txt").read_text().split()
    vocabulary = len(set(words)) + 1  # the end of a line is one of them
    lines = (corpus / "train.txt").read_text().count("\n")
    steps = ((len(words) + lines) // 4 - 1) // 6
    lstm = 16 * 32 + 32
    agent = 16 * 5 + 5 + 5 * 5 + 5
    weights = vocabulary * 8 + 2 * lstm + agent + 8 * vocabulary + vocabulary
    assert (
        f"{weights:,} weights, {vocabulary} words in the vocabulary, {steps} steps of "
        "24 words per epoch."
    ) in trained.out


def test_training_ends_with_the_test_perplexity_of_the_best_epoch(trained, tmp):
    *_, before, last = trained.out
    assert re.fullmatch(r"test perplexity = \d+\.\d{6}", last)
    assert before.startswith("test skips chosen = 1: ")
    epochs = [r for r in metrics(tmp / "trained") if "valid perplexity" in r]
    assert [epoch["epoch"] for epoch in epochs] == [1, 2]
    best = min(epochs, key=lambda epoch: epoch["valid perplexity"])
    assert last == f"test perplexity = {best['test perplexity']:.6f}"
    assert f"valid perplexity = {best['valid perplexity']:.6f}" in trained.out


def test_a_run_folder_holds_flags_metrics_vocabulary_states_and_weights(trained, tmp):
    folder = tmp / "trained" / "run"
    names = sorted(path.name for path in folder.iterdir())
    assert re.fullmatch(r"events\.out\.tfevents\..+", names.pop(2))
    assert names == [
        "best",
        "config.json",
        "last",
        "lock",
        "metrics.jsonl",
        "vocabulary.txt",
    ]
    config = json.loads((folder / "config.json").read_text())
    assert (config["rnn_size"], config["lamda"], config["seed"]) == (8, 1.0, 3435)
    assert not {"load_model", "mode", "prompt"} & config.keys()
    assert config["about"]["corpus"] == "corpus"
    assert f"{config['about']['n_weights']:,} weights" in "".join(trained.out)
    assert re.fullmatch(r"best-\d+-\d+-\w+\.weights\.h5", best_weights(folder).name)
    assert 1 <= len(list((folder / "last").glob("state-*.npz"))) <= 3


def test_a_loaded_model_does_what_it_did_at_the_end_of_training(
    evaluated, trained, tmp
):
    assert evaluated.out[-3:] == trained.out[-3:]
    assert not any(line.startswith("epoch") for line in evaluated.out)
    # Evaluation begins no run.
    assert {path.name for path in (tmp / "evaluated").iterdir()} == {"stdout", "stderr"}


@pytest.fixture(scope="module")
def restarted(tmp, corpus, trained):
    """A run with another seed where the trained one's copy was."""
    shutil.copytree(tmp / "trained" / "run", tmp / "restarted" / "run")
    arguments = ("--max_epochs=1", "--seed=7", "--restart")
    return train(tmp, corpus, "restarted", *arguments)


def test_the_same_seed_gives_the_same_numbers_and_another_others(
    tmp, corpus, trained, restarted
):
    again = train(tmp, corpus, "again", "--max_epochs=2", "--seed=3435")
    first, others = metrics(tmp / "trained"), metrics(tmp / "restarted")
    assert metrics(tmp / "again") == first
    assert again.out[-3:] == trained.out[-3:]
    assert len(others) == 6
    assert all(a != b for a, b in zip(first, others, strict=False))


def test_restart_begins_anew_and_keeps_the_run_that_was_there(tmp, restarted):
    (aside,) = (tmp / "restarted").glob("run.*")
    assert f"The run that was in run is now in {aside}." in restarted.out
    old, kept, new = (
        best_weights(path).read_bytes()
        for path in (tmp / "trained" / "run", aside, tmp / "restarted" / "run")
    )
    assert kept == old != new


def test_no_epochs_evaluate_the_initial_weights(tmp, corpus, trained):
    result = train(tmp, corpus, "initial", "--max_epochs=0")
    assert any(line.startswith("These are the initial weights") for line in result.out)
    # Small weights are next to none: each word has about the same probability.
    words = len((tmp / "trained" / "run" / "vocabulary.txt").read_text().splitlines())
    assert float(result.out[-1].split(" = ")[1]) == pytest.approx(words, rel=0.02)
    assert not (tmp / "initial" / "run").exists()


def test_the_released_recipe_trains_and_is_loaded_as_such(tmp, corpus):
    # There --lamda is a forget bias: without the recipe this is another model.
    arguments = ("--recipe=released", "--lamda=0.5", "--max_steps=3")
    result = train(tmp, corpus, "released", *arguments)
    assert "Training ends: --max_steps 3 reached." in result.out
    arguments = (
        f"--data_dir={corpus}",
        *WINDOWS,
        "--load_model={}/run",
        "--max_epochs=0",
    )
    loaded = succeeds(run(tmp / "released", LANGUAGE, *arguments))
    assert loaded.out[-3:] == result.out[-3:]


def test_every_kind_of_model_trains(tmp, corpus):
    result = train(
        tmp,
        corpus,
        "kinds",
        "--max_steps=3",
        "--n_actions=3",
        "--lamda=0.5",
        "--carry_memory",
        "--observation=last",
        "--reward=prob",
        "--baseline=none",
        "--mixed_precision",
    )
    assert re.fullmatch(r"test skips chosen = 1: \S+ 2: \S+ 3: \S+", result.out[-2])
    assert math.isfinite(float(result.out[-1].split(" = ")[1]))


def test_a_plain_lstm_trains_from_any_folder_without_help_of_these_tests(tmp, corpus):
    # One program that nothing was imported for, python SCRIPT ARGUMENTS, where Keras is
    # told to use another backend and precision.
    arguments = ("--n_actions=1", "--max_steps=3", "--rnn_layers=0", "--train_dir=run")
    data = (f"--data_dir={corpus}", f"--cache_dir={tmp}/cache")
    (tmp / "plain" / "keras").mkdir(parents=True)
    (tmp / "plain" / "keras" / "keras.json").write_text('{"floatx": "float64"}')
    keras = {"KERAS_BACKEND": "jax", "KERAS_HOME": str(tmp / "plain" / "keras")}
    ours = ("PYTHONPATH", "TF_CPP_MIN_LOG_LEVEL")
    result = subprocess.run(
        [sys.executable, LANGUAGE, *data, *SMALL, *arguments],
        cwd=tmp / "plain",
        env={k: v for k, v in os.environ.items() if k not in ours} | keras,
        capture_output=True,
        text=True,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert re.search(r"\ntest perplexity = \d+\.\d{6}\n$", result.stdout)
    assert "test skips chosen = 1: 1.00\n" in result.stdout
    assert best_weights(tmp / "plain" / "run").is_file()


def test_a_smaller_vocabulary_reads_all_other_words_as_unk(tmp, corpus):
    command = ("--vocab_size=50", "--max_steps=3", "--print_every=9")
    first = train(tmp, corpus, "capped", *command)
    assert any(", 50 words in the vocabulary, " in line for line in first.out)
    words = (tmp / "capped" / "run" / "vocabulary.txt").read_text().splitlines()
    assert len(set(words)) == 50 and {"<unk>", "<eos>"} < set(words)
    text = (corpus / "train.txt").read_text().split()
    n = sum(word not in words for word in text)
    assert (
        f"train: {n} words that the vocabulary does not have are read as <unk>."
        in first.out
    )
    load = (f"--data_dir={corpus}", f"--load_model={tmp}/capped/run")
    again = succeeds(run(tmp / "capped_again", LANGUAGE, *load))
    assert again.out[-3:] == first.out[-3:]
    (tmp / "capped_again" / "text").write_text("a word that no corpus has\n")
    score = ("--mode=score", "--input=text", *load)
    scored = succeeds(run(tmp / "capped_again", LANGUAGE, *score))
    assert [line.split("\t")[1] for line in scored.out[1:]] == ["<unk>"] * 6 + ["<eos>"]


def test_the_ids_of_a_corpus_are_made_once(tmp, corpus, trained, evaluated):
    made = [path for path in (tmp / "cache").iterdir() if path.is_dir()]
    assert len(made) == len({path.name for path in made}) > 0
    times = {path: path.stat().st_mtime_ns for path in made}
    succeeds(
        run(tmp / "once", LANGUAGE, *SMALL, f"--data_dir={corpus}", "--max_epochs=0")
    )
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert len([p for p in (tmp / "cache").iterdir() if p.is_dir()]) == len(made)


# What ends a run


def wait_for(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


LONG = ("--max_epochs=2", "--save_every=0", "--print_every=5", "--train_dir=run")


@pytest.mark.parametrize(
    ("number", "code", "also", "but"),
    [
        (signal.SIGINT, 130, (), ""),
        (signal.SIGTERM, 143, ("--restart",), ", without --restart,"),
    ],
)
def test_a_signal_ends_a_run_with_one_line_and_the_same_command_goes_on(
    tmp, corpus, trained, number, code, also, but
):
    folder = tmp / f"signal{code}"
    data = (f"--data_dir={corpus}", f"--cache_dir={tmp}/cache")
    command = (LANGUAGE, *SMALL, *data, *LONG)
    process = programs.start(folder, *command, *also)
    wait_for(lambda: list(folder.glob("run/last/state-*")))
    # The folder is taken.
    other = programs.run(tmp / "other", *command[:-1], f"--train_dir={folder}/run")
    assert (other.code, len(other.err)) == (1, 1)
    assert "another process is training in" in other.err[0]
    os.kill(process.pid, number)
    result = programs.finish(process, folder)
    assert result.code == code
    assert result.err == [
        f"Interrupted by {number.name}: repeat the same command{but} to go on."
    ]
    again = succeeds(run(folder, *command))
    assert any(line.startswith("Going on after step ") for line in again.out)
    assert metrics(folder) == metrics(tmp / "trained")
    assert again.out[-3:] == trained.out[-3:]
    # It is finished now, and says the same once more.
    finished = succeeds(run(folder, *command))
    assert "The run in run is finished." in finished.out
    assert finished.out[-3:] == trained.out[-3:]


@pytest.mark.parametrize("size", [100, 30_000])
def test_a_disk_that_is_full_is_said_in_a_sentence(tmp, corpus, trained, size):
    """As large as a file may become, somewhere within one of the run's files."""
    folder = tmp / f"full{size}"
    data = (f"--data_dir={corpus}", f"--cache_dir={tmp}/cache")
    command = (LANGUAGE, *SMALL, *data, *LONG)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    result = subprocess.run(
        [sys.executable, *map(str, command[:-1]), f"--train_dir={folder}/run"],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1])),
    )
    assert result.returncode == 1
    *_, line = result.stderr.splitlines()
    assert re.fullmatch(
        r"--train_dir: cannot write to \S+ \(File too large\); free space or .*", line
    )
    assert "Traceback" not in result.stderr
    assert not list(folder.rglob("aside.*"))


# Number prediction


@pytest.fixture(scope="module")
def digits(tmp):
    """A folder with a small data file of each kind."""
    for recipe in ("corrected", "released"):
        sizes = ("--n_train=60", "--n_valid=30", "--n_test=50")
        result = run(tmp, PRODUCE, "--data_dir={}/digits", f"--recipe={recipe}", *sizes)
        succeeds(result)
        name = f"digits_10{'_released' if recipe == 'released' else ''}.npz"
        (line,) = result.out
        assert line.endswith(
            f"{name}: 60 train, 30 valid, 50 test sequences of 10+1 digits."
        )
    return tmp / "digits"


SMALL_PREDICTOR = ("--rnn_size=6", "--n_actions=3", "--agent_units=4")


def predict(tmp, digits, name, *arguments):
    always = (f"--data_dir={digits}", "--batch_size=8", "--train_dir=run")
    return succeeds(
        run(
            tmp / name,
            NUMBERS,
            *SMALL_PREDICTOR,
            *always,
            "--print_every=3",
            *arguments,
        )
    )


@pytest.fixture(scope="module")
def predictor(tmp, digits):
    return predict(tmp, digits, "predictor", "--max_epochs=2")


def test_number_prediction_reports_and_ends_with_both_accuracies(predictor):
    report = re.compile(
        rf"epoch [12]/2 step [36]/7: loss {NUMBER}, accuracy {NUMBER}, "
        rf"entropy {NUMBER}, \d+ sequences/s, {CLOCK} left"
    )
    reports = [line for line in predictor.out if " step " in line]
    assert len(reports) == 4
    for line in reports:
        assert report.fullmatch(line), line
    last = re.fullmatch(
        r"test accuracy = (0\.\d{6}) \(greedy\), (0\.\d{6}) \(sampled\)",
        predictor.out[-1],
    )
    for accuracy in last.groups():  # of 50 sequences
        assert float(accuracy) * 50 == pytest.approx(round(float(accuracy) * 50))
    lstm, agent, out = 16 * 24 + 24, 16 * 4 + 4 + 4 * 3 + 3, 6 * 10 + 10
    first = f"{lstm + agent + out:,} weights, 7 steps of 8 sequences per epoch."
    assert predictor.out[0] == first


def test_a_loaded_predictor_does_what_it_did_at_the_end_of_training(
    tmp, digits, predictor
):
    arguments = (f"--load_model={tmp}/predictor/run", "--mode=evaluate")
    result = succeeds(run(tmp / "loaded", NUMBERS, *arguments))
    assert result.out[-1] == predictor.out[-1]
    table = np.array([line.split() for line in result.out[-22:-12]], int)
    np.testing.assert_array_equal(table[:, 0], range(10))
    greedy = float(predictor.out[-1].split()[3])
    confusion = table[:, 1:]
    assert np.trace(confusion) / confusion.sum() == pytest.approx(greedy, abs=1e-6)


def test_a_predictor_does_the_same_without_xla(tmp, digits, predictor):
    predict(tmp, digits, "nojit", "--max_epochs=2", "--nojit_compile")
    compiled, plain = (
        [
            json.loads(line)
            for line in (tmp / name / "run" / "metrics.jsonl").read_text().splitlines()
        ]
        for name in ("predictor", "nojit")
    )
    assert len(compiled) == len(plain)
    for record, expected in zip(plain, compiled, strict=True):
        assert record.keys() == expected.keys()
        for name, value in record.items():
            np.testing.assert_allclose(value, expected[name], rtol=1e-3, err_msg=name)


def test_the_released_recipe_predicts_from_the_released_data(tmp, digits):
    only = tmp / "only_released"
    only.mkdir()
    shutil.copy(digits / "digits_10_released.npz", only)
    few = ("--max_steps=1", "--nojit_compile")
    result = predict(tmp, only, "noise", "--recipe=released", *few)
    assert result.out[-1].startswith("test accuracy = ")


FIVE = ("--n_numbers=5", "--sequence_length=6")


@pytest.fixture(scope="module")
def of_five(tmp):
    """Numbers below 5, and a predictor of them."""
    sizes = ("--n_train=60", "--n_valid=30", "--n_test=50")
    (line,) = succeeds(run(tmp, PRODUCE, "--data_dir={}/five", *FIVE, *sizes)).out
    assert line.endswith(
        "five/numbers_below_5_6.npz: 60 train, 30 valid, 50 test sequences of 6+1 "
        "numbers below 5."
    )
    few = ("--max_epochs=2", "--nojit_compile")  # to compile takes longer than they do
    return predict(tmp, tmp / "five", "predictor_of_five", *FIVE, *few)


def test_a_predictor_of_five_numbers_has_five_answers_and_places(tmp, of_five):
    lstm, agent, out = 11 * 24 + 24, 11 * 4 + 4 + 4 * 3 + 3, 6 * 5 + 5
    first = f"{lstm + agent + out:,} weights, 7 steps of 8 sequences per epoch."
    assert of_five.out[0] == first
    name = "valid last actions by index"
    epochs = [record for record in metrics(tmp / "predictor_of_five") if name in record]
    assert [np.shape(record[name]) for record in epochs] == [(5, 3), (5, 3)]
    assert np.sum(epochs[-1][name]) == 30


def test_a_loaded_predictor_knows_how_many_numbers_there_are(tmp, of_five):
    arguments = (f"--data_dir={tmp}/five", "--batch_size=8")
    arguments += (f"--load_model={tmp}/predictor_of_five/run",)
    result = succeeds(run(tmp / "five_loaded", NUMBERS, *arguments))
    assert result.out[-1] == of_five.out[-1]
    table = np.array([line.split() for line in result.out[-12:-7]], int)
    np.testing.assert_array_equal(table[:, 0], range(5))
    assert table[:, 1:].sum() == 50
    greedy = float(of_five.out[-1].split()[3])
    assert np.trace(table[:, 1:]) / 50 == pytest.approx(greedy, abs=1e-6)


# What is refused


@pytest.fixture(scope="module")
def places(tmp, corpus, trained, digits, predictor):
    """The folder in which the cases below find what is wrong with them."""
    copies = {"no_valid": corpus, "empty": corpus, "latin": corpus, "short": corpus}
    copies |= {"other": corpus, "run": tmp / "trained" / "run"}
    copies |= {
        name: copies["run"] for name in ("damaged", "no_weights", "damaged_words")
    }
    copies |= {"damaged_digits": digits, "ten": tmp / "predictor" / "run"}
    elsewhere = {"of_other": "other", "of_gone": "gone", "of_seed": "other_seed"}
    copies |= {"of_other": copies["run"], "of_gone": copies["run"]}
    copies |= {"of_seed": copies["ten"], "other_seed": digits}
    place = tmp / "places"
    for name, source in copies.items():
        shutil.copytree(source, place / name)
    (place / "no_valid" / "valid.txt").unlink()
    (place / "empty" / "test.txt").write_text("")
    (place / "latin" / "train.txt").write_bytes(b"caf\xe9\n")
    (place / "short" / "valid.txt").write_text("fumila quo gilasi\n")
    with open(place / "other" / "train.txt", "a") as file:
        file.write("another word\n")
    weights = best_weights(place / "damaged")
    weights.write_bytes(weights.read_bytes()[:-1000])
    best_weights(place / "no_weights").unlink()
    (place / "damaged_words" / "vocabulary.txt").write_bytes(b"caf\xe9\n")
    data = place / "damaged_digits" / "digits_10.npz"
    data.write_bytes(data.read_bytes()[:-100])
    path = place / "other_seed" / "digits_10.npz"
    write_digits(path, 10, {"train": 60, "valid": 30, "test": 50}, seed=1)
    for name, folder in elsewhere.items():
        config = json.loads((place / name / "config.json").read_text())
        config["data_dir"] = str(place / folder)
        (place / name / "config.json").write_text(json.dumps(config))
    (place / "file").write_text("in the way")
    shutil.copytree(corpus, place / "corpus")
    shutil.copytree(digits, place / "digits")
    return place


TRAIN = ("--data_dir=corpus", *SMALL, "--train_dir=new")
EVALUATE = ("--data_dir=corpus", *WINDOWS)
DIGITS = ("--data_dir=digits", *SMALL_PREDICTOR, "--batch_size=8", "--train_dir=new")

REFUSED = {
    # script, arguments, and the sentence: what is wrong; what to do.
    "missing data folder": (
        LANGUAGE,
        ("--data_dir=gone",),
        r"--data_dir: there is no folder gone; give a folder with .*get_ptb\.py`\.",
    ),
    "missing file": (
        LANGUAGE,
        ("--data_dir=no_valid",),
        r"--data_dir: no_valid has train\.txt but not valid\.txt; all three .*\.",
    ),
    "empty file": (
        LANGUAGE,
        ("--data_dir=empty",),
        r"empty/test\.txt has no words in it.*\.",
    ),
    "not UTF-8": (
        LANGUAGE,
        ("--data_dir=latin",),
        r"latin/train\.txt is not UTF-8 text \(byte 3\); convert it, .*\.",
    ),
    "corpus shorter than a window": (
        LANGUAGE,
        ("--data_dir=short", *SMALL),
        r"The valid split has \d words, fewer than the 28 that one window needs; lower "
        r"--batch_size \(4\) or --num_unroll_steps \(6\), give --score_tail, .*\.",
    ),
    "end of a line of two words": (
        LANGUAGE,
        (*TRAIN, "--EOS=the end"),
        r"--EOS must be one word without blanks, not 'the end'\.",
    ),
    "no actions": (
        LANGUAGE,
        (*TRAIN, "--n_actions=0"),
        r"flag --n_actions=0: .* in the range \[1, 1000\]",
    ),
    "all dropped": (
        LANGUAGE,
        (*TRAIN, "--dropout=1.0"),
        r"flag --dropout=1\.0: .* in the range \[0\.0, .*",
    ),
    "lamda beyond 1": (
        LANGUAGE,
        (*TRAIN, "--lamda=2"),
        r"flag --lamda=2: .* in the range \[0\.0, 1\.0\]",
    ),
    "path of a variable that is not set": (
        LANGUAGE,
        (*TRAIN, "--load_model="),
        r"flag --load_model=: it is empty; give a .*",
    ),
    "unknown flag": (
        LANGUAGE,
        (*TRAIN, "--rnn_sise=8"),
        r"Unknown command line flag 'rnn_sise'.*rnn_size.*",
    ),
    "stray argument": (
        LANGUAGE,
        (*TRAIN, "corpus"),
        r"'corpus' is not a flag; --help lists those there are\.",
    ),
    "load from a folder without a run": (
        LANGUAGE,
        (*EVALUATE, "--load_model=corpus"),
        r"--load_model: corpus holds no run .*; give the folder of one, .*\.",
    ),
    "load a run without weights": (
        LANGUAGE,
        (*EVALUATE, "--load_model=no_weights"),
        r"--load_model: the run in no_weights has no weights yet .*; let it .*\.",
    ),
    "load with another size": (
        LANGUAGE,
        (*EVALUATE, "--load_model=run", "--rnn_size=9"),
        r"--rnn_size 9 does not fit the model in run, which has 8; leave .*\.",
    ),
    "load with another corpus": (
        LANGUAGE,
        ("--data_dir=other", *WINDOWS, "--load_model=run"),
        r"--data_dir: .* another vocabulary than the run in run; give the corpus .*\.",
    ),
    "load when the corpus has changed": (
        LANGUAGE,
        (*WINDOWS, "--load_model=of_other"),
        r"The run in of_other was trained on data that \S+/other does not contain any "
        r"more; restore them, or give their folder with --data_dir\.",
    ),
    "load when the corpus has gone": (
        LANGUAGE,
        ("--mode=visualize", "--load_model=of_gone"),
        r"The run in of_gone was trained on data that \S+/gone does not contain .*\.",
    ),
    "load when the digits have changed": (
        NUMBERS,
        ("--load_model=of_seed",),
        r"The run in of_seed was trained on data that \S+/other_seed does not .*\.",
    ),
    "load damaged words": (
        LANGUAGE,
        (*EVALUATE, "--load_model=damaged_words"),
        r"--load_model: damaged_words/vocabulary\.txt cannot be read .*\.",
    ),
    "load damaged weights": (
        LANGUAGE,
        (*EVALUATE, "--load_model=damaged"),
        r"--load_model: damaged/best/best-\S*\.h5 .* is damaged, .* again .*\.",
    ),
    "load the run of the other script": (
        NUMBERS,
        ("--data_dir=digits", "--load_model=run"),
        r"--load_model: run does not say .* sequence_length; it is no run .*",
    ),
    "folder that holds another run": (
        LANGUAGE,
        (*TRAIN, "--train_dir=run", "--seed=7", "--max_epochs=2"),
        r"--train_dir: run holds another run, with --print_every 5 \(now 400\), --seed "
        r"3435 \(now 7\); .* --restart, .*\.",
    ),
    "folder that holds a run on another corpus": (
        LANGUAGE,
        (*TRAIN, "--train_dir=run", "--data_dir=other", "--print_every=5"),
        r"--train_dir: run holds another run, with other data than \S+/other contains "
        r"now; repeat its .*\.",
    ),
    "no word may be unknown, or all others are <unk>": (
        LANGUAGE,
        (*TRAIN, "--unknown=error", "--vocab_size=9"),
        r"--unknown error: with --vocab_size every word .* leave one of the two out\.",
    ),
    "cache in a file": (
        LANGUAGE,
        (*TRAIN, "--cache_dir=corpus/train.txt"),
        r"--cache_dir: cannot write to corpus/train\.txt \(.*\); .* move it or .*\.",
    ),
    "nothing for unknown words": (
        LANGUAGE,
        (*TRAIN, "--unknown=unk"),
        r"--unknown unk: corpus/train\.txt has no word <unk>; leave the flag out\.",
    ),
    "unknown words where none may be": (
        LANGUAGE,
        (*TRAIN, "--unknown=error"),
        r"--unknown error: corpus/valid\.txt has \d+ words .*'\w+' first; put .*\.",
    ),
    "more words than can be counted": (
        LANGUAGE,
        ("--load_model=run", "--mode=generate", "--n_words=99999999999999999999"),
        r"flag --n_words=9+: 9+ is not an integer in the range \[1, 2147483647\]",
    ),
    "a number that float32 cannot hold": (
        LANGUAGE,
        (*TRAIN, "--param_init=1e39"),
        r"flag --param_init=1e39: .* is not a number in the range \[0\.0, 1e\+30\]",
    ),
    "not a finite number": (
        LANGUAGE,
        (*TRAIN, "--learning_rate=nan"),
        r"flag --learning_rate=nan: it must be a finite .*",
    ),
    "file in the way of a folder": (
        LANGUAGE,
        (*TRAIN, "--train_dir=file"),
        r"--train_dir: cannot write to file \(File exists\); .* give another folder\.",
    ),
    "missing digits": (
        NUMBERS,
        (*DIGITS, "--sequence_length=20"),
        r"There is no digits/digits_20\.npz; make it with `python .*produce_data\.py.*",
    ),
    "damaged digits": (
        NUMBERS,
        (*DIGITS, "--data_dir=damaged_digits"),
        r"damaged_digits/digits_10\.npz is damaged .*; delete it and make it again\.",
    ),
    "batch larger than the data": (
        NUMBERS,
        (*DIGITS, "--batch_size=61"),
        r"--batch_size 61 is more than the 60 training sequences .*; lower it or .*\.",
    ),
    "stray argument to number prediction": (
        NUMBERS,
        (*DIGITS, "digits"),
        r"'digits' is not a flag; --help lists those there are\.",
    ),
    "sequence shorter than ten": (
        PRODUCE,
        ("--sequence_length=9",),
        r"flags n_numbers=10, sequence_length=9: the index "
        r".* give a --sequence_length of at least --n_numbers",
    ),
    "sequence shorter than its numbers": (
        NUMBERS,
        (*DIGITS, "--n_numbers=25", "--sequence_length=24"),
        r"flags n_numbers=25, sequence_length=24: the index "
        r".* give a --sequence_length of at least --n_numbers",
    ),
    "more numbers than a byte has": (
        PRODUCE,
        ("--n_numbers=257", "--sequence_length=300"),
        r"flag --n_numbers=257: .* in the range \[2, 256\]",
    ),
    "released data of other numbers": (
        PRODUCE,
        ("--n_numbers=7", "--recipe=released"),
        r"flags n_numbers=7, recipe=released: the release "
        r"has 10 numbers alone: leave out --n_numbers or the other",
    ),
    "released data of more digits than there are": (
        PRODUCE,
        ("--sequence_length=101", "--recipe=released"),
        r"--recipe released: its rows have 100 digits .*; leave it out, or give .*\.",
    ),
    "training on released data of other numbers": (
        NUMBERS,
        (*DIGITS, "--n_numbers=7", "--released_data"),
        r"flags n_numbers=7, .*released_data=True: the .*",
    ),
    "missing numbers": (
        NUMBERS,
        (*DIGITS, "--n_numbers=7"),
        r"There is no digits/numbers_below_7_10\.npz; make it .* same --n_numbers.*",
    ),
    "load with other numbers": (
        NUMBERS,
        ("--data_dir=digits", "--load_model=ten", "--n_numbers=7"),
        r"--n_numbers 7 does not fit the model in ten, which has 10; leave .*\.",
    ),
    "file in the way of the digits' folder": (
        NUMBERS,
        (*DIGITS, "--data_dir=file"),
        r"There is no file/digits_10\.npz; make it with .*\.",
    ),
    "no folder for the digits": (
        PRODUCE,
        ("--data_dir=",),
        r"flag --data_dir=: it is empty; give a path or leave it out",
    ),
    "file in the way of the digits": (
        PRODUCE,
        ("--data_dir=file", "--n_train=1", "--n_valid=1", "--n_test=1"),
        r"--data_dir: cannot write to file/digits_10\.npz \(.*\); .* give .* folder\.",
    ),
    "stray argument to produce_data": (
        PRODUCE,
        ("20",),
        r"'20' is not a flag; --help lists those there are\.",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_one_sentence_says_what_is_wrong_and_what_to_do(places, case):
    script, arguments, sentence = REFUSED[case]
    before = sorted(str(path) for path in places.rglob("*"))
    result = run(places, script, *arguments)
    assert result.code == 1
    (line,) = result.err
    assert re.fullmatch(rf"{sentence}(; --help lists the flags\.)?", line), line
    # Nothing was begun.
    after = {str(path) for path in places.rglob("*")}
    assert after - set(before) <= {str(places / n) for n in ("stdout", "stderr")}

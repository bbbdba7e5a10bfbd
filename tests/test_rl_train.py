"""The training scripts on the command line: output, run folders; what is refused."""

import json
import math
import os
import re
import shutil
import signal
import time

import numpy as np
import pytest
import small
from small import WINDOWS, best_weights, metrics, succeeds

from dsc.cli.flags import MODELS
from number_prediction import produce_data
from tests.stress import programs
from tests.stress.programs import LANGUAGE, NUMBERS, PRODUCE

NUMBER = r"-?\d+\.\d+"
CLOCK = r"\d+:\d\d"


@pytest.fixture(scope="module")
def tmp(tmp_path_factory):
    return tmp_path_factory.mktemp("rl_train")


@pytest.fixture
def train(tmp, data):
    """Trains a small language model in the folder `tmp/name`, see `small.Trained`."""
    return lambda name, *arguments: small.train_language(
        tmp / name, data / "corpus", *arguments
    )


@pytest.fixture
def predict(tmp, data):
    """Trains small number prediction in the folder `tmp/name`, see `small.Trained`."""
    return lambda name, *arguments, digits=data / "digits": small.train_numbers(
        tmp / name, digits, *arguments
    )


# The language model


def test_language_training_prints_sizes_reports_and_the_best_epochs_scores(
    data, language_run
):
    words = (data / "corpus" / "train.txt").read_text().replace("\n", " <eos> ").split()
    vocabulary, n_steps = len(set(words)), (len(words) // 4 - 1) // 6
    lstm, agent = 16 * 32 + 32, 16 * 5 + 5 + 5 * 5 + 5
    n_weights = vocabulary * 8 + 2 * lstm + agent + 8 * vocabulary + vocabulary
    assert (
        f"{n_weights:,} weights, {vocabulary} words in the vocabulary, {n_steps} steps "
        "of 24 words per epoch."
    ) in language_run.out

    report = rf"epoch (\d)/2 step (\d+)/{n_steps}: loss {NUMBER}, perplexity {NUMBER}, "
    report += rf"entropy {NUMBER}, \d+ words/s, {CLOCK} left"
    reports = [line for line in language_run.out if " step " in line]
    assert max(map(len, reports)) <= 100
    steps = [re.fullmatch(report, line).groups() for line in reports]
    assert steps == [(e, str(step)) for e in "12" for step in range(5, 26, 5)]
    records = metrics(language_run.run)
    kept = {"nll", "reward", "rl_loss", "actions", "grad_norm", "learning_rate"}
    assert kept <= records[0].keys()

    epochs = [record for record in records if "valid perplexity" in record]
    assert [epoch["epoch"] for epoch in epochs] == [1, 2]
    best = min(epochs, key=lambda epoch: epoch["valid perplexity"])
    valid, skips, test = language_run.out[-3:]
    assert valid == f"valid perplexity = {best['valid perplexity']:.6f}"
    assert skips.startswith("test skips chosen = 1: ")
    assert test == f"test perplexity = {best['test perplexity']:.6f}"


def test_the_files_of_a_run(language_run):
    folder = language_run.run
    names = sorted(path.name for path in folder.iterdir())
    assert re.fullmatch(r"events\.out\.tfevents\..+", names.pop(2))
    assert " ".join(names) == (
        "best config.json last lock metrics.jsonl result.json vocabulary.txt"
    )
    config = json.loads((folder / "config.json").read_text())
    flags = config["flags"]
    assert (flags["rnn_size"], flags["lamda"], flags["seed"]) == (8, 1.0, 3435)
    assert not {"load_model", "mode", "prompt"} & flags.keys()
    assert config["about"]["corpus"] == "corpus"
    assert f"{config['about']['n_weights']:,} weights" in "".join(language_run.out)
    assert re.fullmatch(r"best-\d+-\d+-\w+\.weights\.h5", best_weights(folder).name)
    assert 1 <= len(list((folder / "last").glob("state-*.npz"))) <= 3


def test_a_loaded_language_model_scores_as_at_the_end_of_training(
    call, language_run, tmp_path
):
    arguments = (*WINDOWS, f"--load_model={language_run.run}")
    result = succeeds(call(tmp_path, LANGUAGE, *arguments))
    assert result.out[-3:] == language_run.out[-3:]
    assert not any(line.startswith("epoch") for line in result.out)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_seed_determines_the_numbers_and_restart_moves_the_run_aside(
    tmp, train, language_run
):
    again = train("again", "--max_epochs=2", "--seed=3435")
    assert metrics(again.run) == metrics(language_run.run)
    assert again.out[-3:] == language_run.out[-3:]
    old = best_weights(again.run).read_bytes()
    assert old == best_weights(language_run.run).read_bytes()
    other = train("again", "--max_epochs=1", "--seed=7", "--restart")
    (aside,) = (tmp / "again").glob("run.*")
    assert f"The run that was in run is now in {aside}." in other.out
    assert best_weights(aside).read_bytes() == old
    pairs = zip(metrics(other.run), metrics(aside), strict=False)
    assert all(record != before for record, before in pairs)


SHARES = {  # skip lengths that the model determines
    "lstm": "1: 1.00",
    "fixed_skip": "1: 0.00 2: 0.00 3: 1.00",
}
VARIANTS = [
    *((f"--model={model}", "--n_actions=3") for model in MODELS),
    # With this recipe --lamda is the forget bias.
    ("--recipe=released", "--lamda=0.5"),
    ("--lamda=0.5", "--carry_memory", "--observation=last", "--baseline=none"),
    ("--reward=prob", "--mixed_precision", "--vocab_size=50", "--baseline=value"),
    ("--estimator=exact", "--observation=states", "--entropy_decay=0.5"),
]


@pytest.mark.slow
@pytest.mark.parametrize("flags", VARIANTS, ids=" ".join)
def test_variants_of_the_model_train_and_load(tmp, data, train, call, flags):
    trained = train(flags[0], *flags, "--max_epochs=1")
    *_, skips, test = trained.out
    model = flags[0].removeprefix("--model=")
    if model in SHARES:
        assert skips == f"test skips chosen = {SHARES[model]}"
    if model == "attention":
        assert "skip" not in "".join(trained.out)
    if model == "random_skip":
        shares = [float(part) for part in skips.split()[5::2]]
        assert all(abs(share - 1 / 3) < 0.2 for share in shares)
    assert math.isfinite(float(test.split()[-1]))
    load = (f"--data_dir={data}/corpus", "--load_model=run", *WINDOWS)
    assert succeeds(call(tmp / flags[0], LANGUAGE, *load)).out[-2:] == trained.out[-2:]


# The end of a run


LONG = ("--max_epochs=2", "--save_every=0", "--print_every=5", "--train_dir=run")


@pytest.mark.parametrize(
    ("number", "also", "but"),
    [
        (signal.SIGTERM, ("--restart",), ", without --restart,"),
        pytest.param(signal.SIGINT, (), "", marks=pytest.mark.slow),
    ],
)
def test_a_signal_ends_a_run_and_the_same_command_resumes_it(
    tmp, data, language_run, number, also, but
):
    folder = tmp / number.name
    command = LANGUAGE, *small.LANGUAGE, f"--data_dir={data}/corpus", *LONG
    process = programs.start(folder, *command, *also)
    deadline = time.monotonic() + 60
    while not list(folder.glob("run/last/state-*")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, number)
    result = programs.finish(process, folder)
    assert result.code == 128 + number
    assert result.err == [
        f"Interrupted by {number.name}: repeat the same command{but} to go on."
    ]
    again = succeeds(programs.run(folder, *command))
    assert any(line.startswith("Going on after step ") for line in again.out)
    assert metrics(folder / "run") == metrics(language_run.run)
    assert again.out[-3:] == language_run.out[-3:]
    finished = succeeds(programs.run(folder, *command))
    assert "The run in run is finished." in finished.out
    assert finished.out[-3:] == language_run.out[-3:]


# Number prediction


def test_number_prediction_prints_sizes_reports_and_both_accuracies(number_run):
    lstm, agent, out = 16 * 24 + 24, 16 * 4 + 4 + 4 * 3 + 3, 6 * 10 + 10
    sizes = f"{lstm + agent + out:,} weights, 7 steps of 8 sequences per epoch."
    assert number_run.out[0] == sizes
    report = rf"epoch [12]/2 step [36]/7: loss {NUMBER}, accuracy {NUMBER}, "
    report += rf"entropy {NUMBER}, \d+ sequences/s, {CLOCK} left"
    reports = [line for line in number_run.out if " step " in line]
    assert len(reports) == 4
    for line in reports:
        assert re.fullmatch(report, line), line
    last = r"test accuracy = (0\.\d{6}) \(greedy\), (0\.\d{6}) \(sampled\)"
    for accuracy in re.fullmatch(last, number_run.out[-1]).groups():
        n_right = float(accuracy) * 50  # sequences
        assert n_right == pytest.approx(round(n_right), abs=1e-4)


def check_confusion(lines, accuracies, n_numbers):
    """Compares the confusion matrix with the accuracy."""
    (head,) = (i for i, line in enumerate(lines) if line.startswith("answer "))
    rows = lines[head + 1 : head + 1 + n_numbers]
    table = np.array([line.split() for line in rows], int)
    np.testing.assert_array_equal(table[:, 0], range(n_numbers))
    confusion = table[:, 1:]
    assert confusion.sum() == 50
    greedy = float(accuracies.split()[3])
    assert np.trace(confusion) / 50 == pytest.approx(greedy, abs=1e-6)


def test_loaded_number_prediction_scores_as_at_the_end_of_training(
    call, number_run, tmp_path
):
    arguments = (f"--load_model={number_run.run}", "--mode=evaluate")
    result = succeeds(call(tmp_path, NUMBERS, *arguments))
    assert result.out[-1] == number_run.out[-1]
    check_confusion(result.out, number_run.out[-1], 10)


@pytest.mark.slow
def test_compiled_by_xla_number_prediction_trains_the_same(predict, number_run):
    compiled = metrics(predict("compiled", "--max_epochs=2", "--jit_compile").run)
    for record, expected in zip(compiled, metrics(number_run.run), strict=True):
        assert record.keys() == expected.keys()
        for name, value in record.items():
            np.testing.assert_allclose(value, expected[name], rtol=1e-3, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("model", [model for model in MODELS if model != "dsc"])
def test_number_prediction_trains_every_model(predict, model):
    flags = (f"--model={model}", "--max_epochs=1")
    numbers = predict(f"numbers-{model}", *flags).out[-1].split()
    greedy, sampled = float(numbers[3]), float(numbers[5])
    assert 0.0 <= min(greedy, sampled) <= max(greedy, sampled) <= 1.0
    if model != "attention":
        assert greedy == sampled


@pytest.mark.slow
def test_the_released_recipe_reads_the_released_data(predict, data, tmp):
    (tmp / "released").mkdir()
    shutil.copy(data / "digits" / "digits_10_released.npz", tmp / "released")
    few = ("--recipe=released", "--max_steps=1")
    result = predict("noise", *few, digits=tmp / "released")
    assert result.out[-1].startswith("test accuracy = ")


@pytest.mark.slow
def test_five_numbers_are_written_trained_on_and_loaded(predict, call, tmp):
    five = ("--n_numbers=5", "--sequence_length=6")
    sizes = ("--n_train=60", "--n_valid=30", "--n_test=50", f"--data_dir={tmp}/five")
    (line,) = succeeds(call(tmp, PRODUCE, *five, *sizes)).out
    assert line.endswith(
        "five/numbers_below_5_6.npz: 60 train, 30 valid, 50 test sequences of 6+1 "
        "numbers below 5."
    )
    flags = (*five, "--max_epochs=2")
    trained = predict("of_five", *flags, digits=tmp / "five")
    lstm, agent, out = 11 * 24 + 24, 11 * 4 + 4 + 4 * 3 + 3, 6 * 5 + 5
    sizes = f"{lstm + agent + out:,} weights, 7 steps of 8 sequences per epoch."
    assert trained.out[0] == sizes
    name = "valid last actions by index"
    epochs = [record[name] for record in metrics(trained.run) if name in record]
    assert [np.shape(counts) for counts in epochs] == [(5, 3), (5, 3)]
    assert np.sum(epochs[-1]) == 30
    loaded = succeeds(call(tmp, NUMBERS, f"--load_model={trained.run}"))
    assert loaded.out[-1] == trained.out[-1]
    check_confusion(loaded.out, trained.out[-1], 5)


@pytest.mark.slow
def test_fresh_data_of_two_hops_are_resumed_in_the_middle_of_an_epoch(
    predict, call, tmp
):
    two = ("--hops=2", "--n_numbers=4", "--sequence_length=9")
    sizes = ("--n_train=60", "--n_valid=30", "--n_test=50", f"--data_dir={tmp}/two")
    succeeds(call(tmp, PRODUCE, *two, *sizes))

    def trained(name, *more):
        return metrics(predict(name, *two, *more, digits=tmp / "two").run)

    whole = trained("whole", "--fresh_data", "--max_steps=21")
    trained("parts", "--fresh_data", "--max_steps=11")  # an epoch has seven
    assert trained("parts", "--fresh_data", "--max_steps=21") == whole
    assert trained("file", "--max_steps=21") != whole


# Refusals


@pytest.fixture(scope="module")
def places(tmp, data, language_run, number_run):
    """A folder for the refused commands below."""
    folder = tmp / "places"
    sources = {"corpus": "corpus", "other": "corpus", "digits": "digits"}
    sources = {name: data / source for name, source in sources.items()}
    sources |= dict.fromkeys(("run", "of_other", "of_gone"), language_run.run)
    sources |= dict.fromkeys(("ten", "of_seed"), number_run.run)
    for name, source in sources.items():
        shutil.copytree(source, folder / name)
    with open(folder / "other" / "train.txt", "a") as file:
        file.write("another word\n")
    sizes = {"train": 60, "valid": 30, "test": 50}
    produce_data.write(folder / "other_seed" / "digits_10.npz", 10, sizes, seed=1)
    moved = {"of_other": "other", "of_gone": "gone", "of_seed": "other_seed"}
    for name, where in moved.items():
        path = folder / name / "config.json"
        config = json.loads(path.read_text())
        config["flags"]["data_dir"] = str(folder / where)
        path.write_text(json.dumps(config))
    return folder


TRAIN = " ".join(("--data_dir=corpus --train_dir=new", *small.LANGUAGE))
PREDICT = " ".join(("--data_dir=digits --train_dir=new", *small.NUMBERS))
ATTENTION = "--model random_skip is never greedy: leave the other flag out"
SHARES = "--shares are --n_actions numbers, separated by commas, whose sum is 1"

# Arguments by script, and the sentence that refuses them. The tests of the modules have
# refusals that do not depend on flags.
REFUSED = {
    LANGUAGE: [
        (
            "--data_dir=gone",
            r"--data_dir: there is no folder gone; give a folder .*get_ptb\.py`\.",
        ),
        (f"{TRAIN} --dropout=1.0", r"flag --dropout=1\.0: .* range \[0\.0, .*"),
        (f"{TRAIN} --param_init=1e39", r"flag --param_init=1e39: .* 1e\+30\]"),
        (f"{TRAIN} --learning_rate=nan", r"flag .*=nan: it must be a finite .*"),
        (f"{TRAIN} --load_model=", "flag --load_model=: it is empty; give a .*"),
        (f"{TRAIN} --rnn_sise=8", "Unknown command line flag 'rnn_sise'.*rnn_size.*"),
        (f"{TRAIN} corpus", r"'corpus' is not a flag; --help lists .*"),
        (f"{TRAIN} --model=attention --rl_weight=0.3", f".*{ATTENTION}.*"),
        (f"{TRAIN} --model=random_skip --eval_actions=greedy", f".*{ATTENTION}.*"),
        (f"{TRAIN} --model=attention --eval_actions=newest", f".*{ATTENTION}.*"),
        (f"{TRAIN} --eval_actions=mean:0", "flag .*: it is greedy, sample, newest .*"),
        (f"{TRAIN} --shares=0.1,0.1,0.1,0.2,0.5", f".*{SHARES}.*"),
        (f"{TRAIN} --model=random_skip --shares=0.5,0.5", f".*{SHARES}.*"),
        (f"{TRAIN} --model=random_skip --shares=a,1,0,0,0", f".*{SHARES}.*"),
        (
            f"{TRAIN} --estimator=exact --recipe=released",
            "flags .*: --estimator exact needs .*: leave one of them out",
        ),
        (
            f"{TRAIN} --baseline=value --model=lstm",
            "flags .*: --baseline value is for .*",
        ),
        (
            "--load_model=run --mode=generate --n_words=99999999999999999999",
            r"flag --n_words=9+: 9+ is not an integer in the range \[1, 2147483647\]",
        ),
        (
            "--data_dir=corpus --load_model=run --rnn_size=9",
            r"--rnn_size 9 does not fit the model in run, which has 8; leave .*\.",
        ),
        (
            "--data_dir=other --load_model=run --batch_size=4 --num_unroll_steps=6",
            r"--data_dir: .* another vocabulary than the run in run; give the .*\.",
        ),
        (
            "--load_model=of_other",
            r"The run in of_other was trained on data that \S+/other does not contain "
            r"any more; restore them, or give their folder with --data_dir\.",
        ),
        (
            "--mode=visualize --load_model=of_gone",
            r"The run in of_gone was trained on data that \S+/gone does not .*\.",
        ),
        (
            f"{TRAIN} --train_dir=run --data_dir=other --print_every=5",
            r"--train_dir: run holds another run, with other data than \S+/other "
            r"contains now; repeat its .*\.",
        ),
        (
            f"{TRAIN} --strategy=mirrored --load_model=run",
            "--strategy mirrored is for training: --load_model evaluates in one "
            r"process, on one device; leave --strategy out\.",
        ),
    ],
    NUMBERS: [
        (
            "--load_model=of_seed",
            r"The run in of_seed was trained on data that \S+/other_seed does not .*\.",
        ),
        (
            "--data_dir=digits --load_model=run",
            r"--load_model: run has no value for --n_numbers: another script or .*",
        ),
        (
            "--data_dir=digits --load_model=ten --n_numbers=7",
            r"--n_numbers 7 does not fit the model in ten, which has 10; leave .*\.",
        ),
        (
            f"{PREDICT} --sequence_length=20",
            r"There is no digits/digits_20\.npz; write it with .*produce_data\.py.*",
        ),
        (
            f"{PREDICT} --batch_size=61",
            r"--batch_size 61 is more than the 60 training sequences .*; lower .*\.",
        ),
        (
            f"{PREDICT} --n_numbers=25 --sequence_length=24",
            "flags n_numbers=25, sequence_length=24, hops=1: an index .* give a "
            "--sequence_length of at least --n_numbers times --hops",
        ),
        (
            f"{PREDICT} --n_numbers=7 --released_data",
            "flags n_numbers=7, .*released_data=True: the release .*",
        ),
        (
            f"{PREDICT} --hops=2 --sequence_length=20 --recipe=released",
            "flags .*hops=2, .*: the release supports only .* one hop.*",
        ),
        (
            f"{PREDICT} --estimator=exact --credit=all",
            "flags .*: --estimator exact needs .*: give --credit last",
        ),
    ],
    PRODUCE: [
        ("--n_numbers=257 --sequence_length=300", r"flag .*=257: .* range \[2, 256\]"),
        (
            "--sequence_length=101 --recipe=released",
            r"--recipe released has only 100 digits .*; leave it out, or give .*\.",
        ),
    ],
    programs.PLOT_RUN: [
        ("", "Give the folders of runs: .*"),
        ("here", "here holds no run .*"),
        ("run ten", "The runs have different scores, .*; plot one task at a time."),
        ("ten --out=corpus/train.txt/x", "--out: cannot write to .*"),
        ("ten --out=pictures/", "--out: 'pictures/' names no file; give .*"),
    ],
    programs.PLOT_PLACES: [
        ("run", "run has no epoch of number prediction; give .*"),
        ("ten ten", "Give the folder of one run: .*"),
        ("ten --out=.", r"--out: '\.' names no file; give .*"),
    ],
    programs.PLOT_SKIPS: [
        ("", "Give the folder of one run: .*"),
        ("here", "--load_model: here holds no run .*"),
        ("run --sentence=999", r"\S+/valid\.txt: there is no sentence 999 .*"),
        ("run --text=nowhere", "--text: there is no sentence 0 .*"),
        ("run --text=", "--text has no words in it; .*"),
        ("run --text=\udce9", "--text is not UTF-8 text .*"),
        ("run --data_dir=other", "--data_dir: .* gives another vocabulary than .*"),
        ("run --data_dir=none", "--data_dir: there is no folder none; .*"),
    ],
}
CASES = [(script, *case) for script, cases in REFUSED.items() for case in cases]


@pytest.mark.parametrize(("script", "arguments", "sentence"), CASES)
def test_one_sentence_says_what_is_wrong_and_what_to_do(
    places, call, script, arguments, sentence
):
    before = set(places.rglob("*"))
    result = call(places, script, *arguments.split())
    assert result.code == 1
    *notes, line = result.err
    assert all(" dropped" in note for note in notes)  # words that a model does not know
    assert re.fullmatch(rf"{sentence}(; --help lists the flags\.)?", line), line
    assert set(places.rglob("*")) == before  # no run was started

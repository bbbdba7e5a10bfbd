"""A sweep: its grid, its table, its processes, and that it resumes."""

import copy
import fcntl
import importlib
import json
import math
import os
import signal
import subprocess
import threading
import time

import pytest
import small
import sweep
from absl import flags
from sweeping import execution as sweep_execution
from sweeping import grid as sweep_grid
from sweeping import table as sweep_table
from sweeping.execution import Job, Outcome
from sweeping.grid import Run

from dsc.cli.errors import RunError
from dsc.cli.signals import Interrupted
from language_modeling.agreement import grammar
from tests.stress import programs

SWEEP = programs.ROOT / "scripts" / "sweep.py"


@pytest.fixture
def defined():
    """Flags as a training script has them."""
    values = flags.FlagValues()
    flags.DEFINE_integer("units", 650, "", 1, flag_values=values)
    flags.DEFINE_float("lamda", 1.0, "", 0.0, 1.0, flag_values=values)
    flags.DEFINE_bool("carry", False, "", flag_values=values)
    flags.DEFINE_enum("reward", "prob", ["prob", "log"], "", flag_values=values)
    flags.DEFINE_integer("seed", 1, "", 0, flag_values=values)
    flags.DEFINE_integer("max_epochs", 9, "", flag_values=values)
    flags.DEFINE_string("data_dir", None, "", flag_values=values)
    flags.DEFINE_string("shares", None, "", flag_values=values)
    return values


def names(grid, seeds=("1",)):
    return [run.name for run in sweep_grid.runs(grid, seeds, "sweep")]


# The grid


def test_a_grid_is_read_in_every_spelling(defined):
    arguments = ["--units", "7,30", "--lamda=.50,1", "--carry", "-reward", "log"]
    arguments += ["--shares", "0.4,0.6"]
    assert sweep_grid.read(arguments, defined) == {
        "units": ["7", "30"],
        "lamda": ["0.5", "1.0"],
        "carry": ["True"],
        "reward": ["log"],
        "shares": ["0.4,0.6"],
    }
    assert sweep_grid.read(["--nocarry"], defined) == {"carry": ["False"]}
    both = sweep_grid.read(["--carry=true,false"], defined)
    assert both == {"carry": ["True", "False"]}
    # A path may contain a comma.
    assert sweep_grid.read(["--data_dir=a,b"], defined) == {"data_dir": ["a,b"]}


def test_the_runs_are_all_combinations_with_all_seeds():
    grid = {"units": ["7", "30"], "lamda": ["0.5", "1.0", "0.0"]}
    runs = sweep_grid.runs(grid, ["5", "6"], "sweep")
    assert len({run.folder for run in runs}) == len(runs) == 12
    assert runs[2].flags == ["--units=7", "--lamda=1.0", "--seed=5"]
    assert runs[2].name == "lamda=1.0,units=7/seed=5"
    assert runs[2].folder.is_absolute()


def test_a_larger_grid_finds_the_runs_of_a_smaller_one():
    few = {"units": ["7"], "lamda": ["1.0"], "max_epochs": ["3"]}
    many = {"lamda": ["0.5", "1.0"], "units": ["8", "7"], "max_epochs": ["5"]}
    many |= {"data_dir": ["elsewhere"]}
    assert set(names(few)) < set(names(many, ("1", "2")))


def test_folders_have_names_that_a_file_system_takes(tmp_path):
    assert names({}) == ["defaults/seed=1"]
    assert names({"EOS": ["a/b"]}) == ["EOS=a%2Fb/seed=1"]
    values = {f"flag_{i}": ["0.123456"] for i in range(19)}
    texts = [["x" * 300 + end] for end in "ab"]
    grids = [values | {"EOS": text} for text in texts] + [values]
    found = [sweep_grid.runs(grid, ["1"], tmp_path)[0] for grid in grids]
    for run in found:
        run.folder.mkdir(parents=True)
    assert len({run.folder for run in found}) == 3
    assert found[0].folder == sweep_grid.runs(grids[0], ["1"], tmp_path)[0].folder


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--unit", "7"], "--unit is no flag"),
        (["--units", "7,x"], "--units may not be 'x'"),
        (["--units", "7,0"], "--units may not be '0'"),
        (["--lamda", "0.5,.5"], "--lamda has the value 0.5 twice"),
        (["--units", "7", "30"], "'30' is not a flag"),
        (["--units=7", "--units=8"], "--units is given twice"),
        (["--seed", "1,2"], "give the seeds of all runs with --seeds"),
        (["--train_dir=x"], "--train_dir is the sweep's to set"),
        (["--max_epochs=1,3"], "--max_epochs takes one value, since runs that differ"),
    ],
)
def test_what_the_training_script_would_refuse_is_refused_before(
    defined, arguments, said
):
    with small.refused(said):
        sweep_grid.read(arguments, defined)


def test_validators_of_the_training_script_are_asked_too(defined):
    flags.register_validator(
        "units", lambda n: n != 13, "not thirteen", flag_values=defined
    )
    runs = sweep_grid.runs({"units": ["7", "13"]}, ["1"], "sweep")
    sweep_grid.parsed(runs[:1], defined)
    with pytest.raises(RunError, match=r"units=13/seed=1 is refused: .*not thirteen"):
        sweep_grid.parsed(runs, defined)


# The table


def write_table(folder, scores):
    """Writes the table of two points with these scores; returns its lines."""
    grid = {"units": ["7", "30"], "reward": ["log"]}
    seeds = [str(i) for i in range(len(scores) // 2)]
    runs = sweep_grid.runs(grid, seeds, folder)
    outcomes = [Outcome(s, None if s else "killed") for s in scores]
    table = sweep_table.rows(grid, list(zip(runs, outcomes, strict=True)))
    markdown = sweep_table.write(folder, table, "title")
    assert markdown == (folder / "table.md").read_text()
    return markdown.splitlines(), (folder / "table.csv").read_text().splitlines()


def test_the_table_has_means_and_deviations_worked_by_hand(tmp_path):
    scores = [{"test perplexity": score} for score in (1.0, 2.0, 6.0, 5.0)]
    markdown, rows = write_table(tmp_path, [*scores, None, None])
    assert markdown == [
        "title",
        "",
        "| units | seeds | test perplexity |",
        "| --- | --- | --- |",
        "| 7 | 3/3 | 3.0000 ± 2.6458 |",
        "| 30 | 1/3 | 5.0000 |",
    ]
    assert rows == [
        "units,seeds,test perplexity mean,test perplexity std",
        "7,3/3,3.000000,2.645751",
        "30,1/3,5.000000,",
    ]


def test_the_table_has_scores_that_are_infinite_or_missing(tmp_path):
    scores = [{"a": math.inf, "b": 2.0}, {"a": 1.0}, {"a": 3.0, "b": 5.0}]
    markdown, rows = write_table(tmp_path, [*scores, None, None, None])
    assert markdown[-2] == "| 7 | 3/3 | inf | 3.5000 ± 2.1213 |"
    assert markdown[-1] == "| 30 | 0/3 | - | - |"
    assert rows[1:] == ["7,3/3,inf,,3.500000,2.121320", "30,0/3,,,,"]


# One run

SCRIPT = """
import json, os, sys, time

def finish(scores):
    folder = sys.argv[-1].removeprefix("--train_dir=")
    with open(f"{folder}/result.json", "w") as file:
        json.dump({"scores": scores}, file)

"""
SCORES = {"valid perplexity": 2.5, "test perplexity": 3.25}
FINISH = f"finish({SCORES})"


@pytest.fixture
def job(tmp_path):
    """Makes a job whose training script is a few lines of Python."""

    def make(code, name="seed=1", retries=2):
        (tmp_path / "script.py").write_text(f"{SCRIPT}{code}\n")
        run = Run({}, "1", tmp_path / "sweep" / name)
        return Job(run, str(tmp_path / "script.py"), {}, str(tmp_path), 3, retries)

    return make


def outcomes(*jobs, at_once=2):
    found = {}
    report = (lambda run: None), (lambda run, end: found.update({run.name: end}))
    sweep_execution.run_all(jobs, at_once, *report)
    return [found[job.run.name] for job in jobs]


def test_a_run_gets_its_flags_its_threads_and_the_working_directory(
    job, tmp_path, monkeypatch
):
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "7")  # what --threads says comes first
    code = "open('told', 'w').write(' '.join(sys.argv[1:]) + ' '"
    code += " + os.environ['TF_NUM_INTRAOP_THREADS'])\n"
    (outcome,) = outcomes(one := job(code + FINISH))
    assert outcome == Outcome(SCORES, None, 1)
    told = (tmp_path / "told").read_text()
    assert told == f"--seed=1 --train_dir={one.run.folder} 3"


def test_a_score_that_no_float_holds_is_infinite(job):
    (outcome,) = outcomes(one := job(FINISH.replace("2.5", "None")))
    assert outcome.scores == {**SCORES, "valid perplexity": math.inf}
    assert sweep_execution.finished(one).scores == outcome.scores


def test_a_result_belongs_to_one_script_data_and_flags(job, tmp_path):
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    (corpus / "train.txt").write_text("a b")
    paths = [corpus / "train.txt"]
    one = job(FINISH)._replace(data=sweep_execution.stamps(paths))
    (outcome,) = outcomes(one)
    assert sweep_execution.finished(one).scores == outcome.scores
    run = one.run._replace(settings={"max_epochs": "3"})
    assert sweep_execution.finished(one._replace(run=run)) is None
    assert sweep_execution.finished(one._replace(script="other.py")) is None
    (corpus / "train.txt").write_text("a b c")
    changed = one._replace(data=sweep_execution.stamps(paths))
    assert sweep_execution.finished(changed) is None


def test_a_failed_run_is_retried_and_then_reported_with_its_last_line(job):
    fails = "print('more'); sys.exit('The disk is full.')"
    once = f"open('n', 'a').write('x')\nif len(open('n').read()) < 2: {fails}\n{FINISH}"
    assert outcomes(job(once)) == [Outcome(SCORES, None, 2)]
    (outcome,) = outcomes(job(fails, retries=1))
    assert outcome == Outcome(None, "The disk is full.", 2)
    (outcome,) = outcomes(job("os.kill(os.getpid(), 9)", retries=0))
    assert outcome == Outcome(None, "killed by SIGKILL", 1)


def test_other_runs_continue_after_a_failure(job):
    code = f"if 'seed=2' in sys.argv[2]: sys.exit('No.')\n{FINISH}"
    jobs = [job(code, f"seed={seed}", retries=0) for seed in range(4)]
    errors = [outcome.error for outcome in outcomes(*jobs)]
    assert errors == [None, None, "No.", None]


def test_a_folder_that_is_in_use_is_waited_for(job):
    one = job(FINISH)
    one.run.folder.mkdir(parents=True)
    execution = sweep_execution.Execution(one)
    with open(one.run.folder / "lock", "ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert execution.poll() is None
        assert execution.process is None
    while (outcome := execution.poll()) is None:
        time.sleep(0.01)
    assert (outcome.error, outcome.tries) == (None, 1)


def test_a_signal_is_passed_on_once_to_all_runs_and_waits_for_them(
    job, tmp_path, signals
):
    code = """
import signal
def save(number, frame):
    open(sys.argv[2][12:] + "/saved", "a").write("x")
signal.signal(signal.SIGTERM, save)
signal.signal(signal.SIGINT, save)
open(sys.argv[2][12:] + "/ready", "w")
signal.pause()
"""
    jobs = [job(code, f"seed={seed}") for seed in (1, 2, 3)]

    def interrupt():
        while len(list(tmp_path.glob("sweep/*/ready"))) < 2:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(Interrupted, match="130"):
        outcomes(*jobs, at_once=2)
    saved = {p.parent.name: p.read_text() for p in (tmp_path / "sweep").glob("*/saved")}
    assert saved == {"seed=1": "x", "seed=2": "x"}


# The whole command


SMALL = ("--script=language_modeling/rl_train.py", *small.LANGUAGE, "--save_every=0")
SMALL += ("--max_epochs=3", "--seeds=1,2")


@pytest.fixture(scope="module")
def tmp(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    grammar.write(folder / "corpus", seed=3, n_train=400, n_valid=60, n_test=50)
    return folder


def command(tmp, engine="processes", n_actions="1,3"):
    places = (f"--data_dir={tmp}/corpus", "--sweep_dir=sweep", f"--engine={engine}")
    return (*SMALL, *places, "--n_actions", n_actions)


@pytest.fixture(scope="module")
def whole(tmp):
    """A sweep without interruption."""
    result = programs.run(tmp / "whole", SWEEP, *command(tmp))
    assert result.code == 0, result
    return tmp / "whole" / "sweep"


def training(folder, value):
    """The process that trains a run which has a state already, and its parent."""
    pattern = f"sweep/*n_actions={value},*/seed=1"
    while not (states := list(folder.glob(f"{pattern}/last/state-*-*[1-9]-*"))):
        time.sleep(0.01)
    search = ["pgrep", "-f", "--", f"--train_dir={states[0].parents[1]}$"]
    process = int(subprocess.check_output(search))
    parent = subprocess.check_output(["ps", "-o", "ppid=", "-p", str(process)])
    return process, int(parent)


def tables(folder):
    return [(folder / f"table.{kind}").read_text() for kind in ("csv", "md")]


@pytest.mark.slow
def test_a_sweep_makes_ordinary_runs_and_one_table_and_resumes(tmp, whole):
    runs = sorted(whole.glob("*/seed=*"))
    assert len(runs) == 4
    results = [json.loads((run / "result.json").read_text()) for run in runs]
    assert all(result["epochs"] == 3 for result in results)
    heads, *rows = [line.split(",") for line in tables(whole)[0].splitlines()]
    assert heads[:3] == ["n_actions", "seeds", "valid perplexity mean"]
    assert [row[:2] for row in rows] == [["1", "2/2"], ["3", "2/2"]]
    printed = (runs[0] / "output.txt").read_text().splitlines()
    assert printed[-1].startswith("test perplexity = ")
    # A run that was killed at its end is done again, the others are not.
    before = tables(whole)
    (runs[0] / "result.json").unlink()
    again = programs.run(tmp / "whole", SWEEP, *command(tmp))
    assert (again.code, again.out[0]) == (0, "4 runs, 3 of them finished before.")
    assert tables(whole) == before
    # A smaller grid is part of it; the table has only what the command asks for.
    smaller = programs.run(tmp / "whole", SWEEP, *command(tmp, n_actions="3"))
    assert (smaller.code, smaller.out[0]) == (0, "2 runs, 2 of them finished before.")
    rows = tables(whole)[0].splitlines()
    assert [row.split(",")[0] for row in rows] == ["seeds", "2/2"]
    for name, text in zip(("table.csv", "table.md"), before, strict=True):
        (whole / name).write_text(text)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--script=rl_train.py",), "flag --script=rl_train.py: value should be"),
        (("--seeds=1,-2",), "--seed may not be '-2'"),
        (("--seeds=",), "flag --seeds="),
        (("--mode=score",), "--mode is the sweep's to set; a sweep trains."),
    ],
)
def test_a_command_that_cannot_be_is_refused_before_anything_runs(tmp, arguments, said):
    result = programs.run(tmp / "refused", SWEEP, "--sweep_dir=sweep", *arguments)
    assert (result.code, len(result.err), result.out) == (1, 1, [])
    assert result.err[0].startswith(said)
    assert not (tmp / "refused" / "sweep").exists()


@pytest.mark.slow
def test_ctrl_c_and_a_kill_cost_a_sweep_nothing(tmp, whole):
    folder = tmp / "hurt"
    process = programs.start(folder, SWEEP, *command(tmp))
    killed, _ = training(folder, 1)
    os.kill(killed, signal.SIGKILL)
    # What the sweep writes; the training script writes its result while it still runs.
    while not list(folder.glob("sweep/*n_actions=1,*/seed=1/job.json")):
        time.sleep(0.01)
    training(folder, 3)
    os.kill(process.pid, signal.SIGINT)
    result = programs.finish(process, folder)
    assert result.code == 130, result
    assert any("done" in line and "2 tries" in line for line in result.out)
    assert result.err[-1].startswith("Interrupted by SIGINT: repeat the same command")
    again = programs.run(folder, SWEEP, *command(tmp))
    assert again.code == 0, again
    assert not again.out[0].startswith("4 runs, 0 of them")
    assert tables(folder / "sweep") == tables(whole)


def test_a_run_is_compared_with_the_files_that_it_reads(tmp):
    read = []
    for script, arguments in (
        ("language_modeling/rl_train.py", (f"--data_dir={tmp}/corpus",)),
        ("number_prediction/rl_train.py", ("--data_dir=n", "--sequence_length=20")),
    ):
        module = importlib.import_module(sweep.SCRIPTS[script])
        values = copy.deepcopy(module.FLAGS)
        values(["", *arguments])
        read.append({str(path) for path in sweep.files_read(module, values)})
    splits = ("train", "valid", "test")
    assert read[0] == {f"{tmp}/corpus/{split}.txt" for split in splits}
    assert read[1] == {"n/digits_20.npz"}


@pytest.mark.slow
def test_a_ray_sweep_with_killed_runs_ends_with_the_same_table(tmp, whole):
    pytest.importorskip("ray")
    folder = tmp / "ray"
    own = folder / "sweep" / "ray" / "notes"  # a user's, which stays
    own.parent.mkdir(parents=True)
    own.write_text("mine")
    process = programs.start(folder, SWEEP, *command(tmp, "ray"))
    killed, _ = training(folder, 1)
    os.kill(killed, signal.SIGKILL)
    _, worker = training(folder, 3)
    os.kill(worker, signal.SIGKILL)
    result = programs.finish(process, folder)
    assert result.code == 0, result
    assert tables(folder / "sweep") == tables(whole)
    assert own.read_text() == "mine"

"""Short runs of the stress tests, and of scripts/train."""

import shutil
import signal
import subprocess

import pytest

from tests.stress import kill_and_resume, programs

SCRIPTS = programs.ROOT / "scripts"
STRESS = programs.ROOT / "tests" / "stress"


@pytest.mark.parametrize(
    "arguments", [(), ("--max_epochs", "1")], ids=["no flags", "flags"]
)
def test_train_without_flags_is_number_prediction(tmp_path, arguments):
    (tmp_path / "scripts").mkdir()
    train = shutil.copy(SCRIPTS / "train", tmp_path / "scripts")
    environment = tmp_path / "scripts" / "environment.sh"
    environment.write_text("prepare_environment() { :; }")
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\necho "python $@"\n')
    python.chmod(0o755)
    (tmp_path / "data" / "ptb").mkdir(parents=True)  # must not matter
    out = subprocess.run([train, *arguments], check=True, capture_output=True).stdout
    started = [line for line in out.decode().splitlines() if line.startswith("python ")]
    numbers = tmp_path / "number_prediction"
    expected = [
        f"python {numbers}/produce_data.py",
        f"python {numbers}/rl_train.py --train_dir cv-first-run",
    ]
    if arguments:
        expected = [f"python {tmp_path}/language_modeling/rl_train.py --max_epochs 1"]
    assert started == expected


def test_a_few_hostile_inputs(tmp_path):
    arguments = ("--cases=120", "--processes=2")
    result = programs.run(tmp_path, STRESS / "fuzz.py", *arguments)
    assert result.code == 0, result
    assert result.out[-1] == "122 cases: no traceback, no hang, no change."


@pytest.mark.slow
@pytest.mark.parametrize("task", kill_and_resume.TASKS)
def test_nothing_is_lost_under_three_kills(tmp_path, task):
    arguments = (f"--task={task}", "--kills=3")
    result = programs.run(tmp_path, STRESS / "kill_and_resume.py", *arguments)
    assert result.code == 0, result
    assert result.out[-1] == "Nothing was lost."


@pytest.mark.slow
def test_memory_stays_flat(tmp_path):
    result = programs.run(tmp_path, STRESS / "memory.py")
    assert result.code == 0, result
    assert result.out[-1].startswith("Flat between step 300 and step 3000")


@pytest.mark.slow
def test_a_corpus_is_prepared_once(tmp_path):
    result = programs.run(tmp_path, STRESS / "large_corpus.py", "--megabytes=1")
    # How fast a machine starts is not of interest here.
    assert result.code == 0 or result.err[-1].startswith("That is not less than")


def test_a_program_that_takes_too_long_is_stopped(tmp_path):
    (tmp_path / "long.py").write_text("import time\ntime.sleep(99)\n")
    process = programs.start(tmp_path, tmp_path / "long.py")
    assert programs.finish(process, tmp_path, timeout=0.5).code is None
    assert process.exitcode == -signal.SIGKILL

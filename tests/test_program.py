"""How programs start and end: --help, flags, signals, a broken output."""

import contextlib
import errno
import os
import re
import signal

import isolated
import pytest
from absl import flags

from dsc.cli import program
from dsc.cli import signals as interruption
from dsc.cli.flags import Group
from tests.stress import programs
from tests.stress.programs import LANGUAGE, NUMBERS

SCRIPTS = programs.ROOT / "scripts"
PROGRAMS = sorted(
    path
    for folder in ("language_modeling", "number_prediction", "scripts")
    for path in (programs.ROOT / folder).glob("*.py")
    if "program.parse(" in path.read_text(encoding="utf-8")
)
GROUPS = ["data", "model", "agent", "optimisation", "run", "use of a trained model"]


def run_without_libraries(*command):
    """`(exit code, stdout, stderr)` of a program that cannot import slow libraries."""
    process = isolated.start(*command, without="keras,tensorflow,jax,matplotlib")
    out, err = process.communicate()
    return process.returncode, out, err


# The command line


@pytest.mark.parametrize(
    ("script", "asked"),
    [(LANGUAGE, "--help"), (NUMBERS, "-h"), (SCRIPTS / "train_jax.py", "-h")],
)
def test_help_of_training_needs_no_tensorflow_and_groups_the_flags(script, asked):
    code, out, err = run_without_libraries(script, asked)
    assert (code, err) == (0, "")
    assert re.findall(r"^([a-z ]+):$", out, re.MULTILINE) == GROUPS
    *_, use = out.split("\n\n")
    assert "--load_model:" in use and "--train_dir:" not in use


@pytest.mark.parametrize("script", [LANGUAGE, SCRIPTS / "plot_skips.py"])
def test_a_wrong_flag_needs_no_tensorflow(script):
    code, _, err = run_without_libraries(script, "--n_actions=0")
    assert code == 1
    assert err == (
        "flag --n_actions=0: 0 is not an integer in the range [1, 1000]; --help lists "
        "the flags.\n"
    )


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda p: p.name)
def test_help_succeeds_and_every_number_has_bounds(tmp_path, path):
    result = programs.run(tmp_path, path, "--help")
    assert (result.code, result.err) == (0, [])
    numbers = [line for line in result.out if re.match(r"\s+\(an? .*(int|num)", line)]
    assert all(re.search(r"in the range \[\S+, \S+\]\)", line) for line in numbers)
    assert len(PROGRAMS) > 11


# Signals


def test_a_signal_that_was_ignored_at_the_start_stays_ignored(signals):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    interruption.exit_on_signals()
    os.kill(os.getpid(), signal.SIGHUP)
    with pytest.raises(interruption.Interrupted):
        os.kill(os.getpid(), signal.SIGUSR1)


# An output that breaks


def end_of(run, load_model=None):
    """The exit code of a training script that runs this with a broken output."""
    defined = flags.FlagValues()
    group = Group("run", defined)
    group.path("train_dir", "cv", "")
    group.path("load_model", load_model, "")
    reader, writer = os.pipe()
    os.close(reader)
    with (
        open(writer, "w", buffering=1) as stream,
        contextlib.redirect_stdout(stream),
        pytest.raises(SystemExit) as end,
    ):
        program.main(defined, run)
    return end.value.code


def test_training_whose_output_breaks_ends_when_nothing_is_lost(signals):
    saved = []

    def run():
        with interruption.polled():
            print("a report")
            saved.append(1)
        saved.append(2)

    assert end_of(run) == 128 + signal.SIGPIPE
    assert saved == [1]


def test_how_to_go_on_is_said_after_it(signals, capsys):
    end_of(lambda: print("a report"))
    assert capsys.readouterr().err == (
        "The output cannot be written (Broken pipe): repeat the same command to go on."
        "\n"
    )


def test_a_reader_that_has_enough_is_no_failure_of_a_trained_model(signals, capsys):
    assert end_of(lambda: print("a word"), "cv") is None
    assert capsys.readouterr().err == ""


def test_an_error_of_a_file_is_not_blamed_on_the_output(signals, capsys):
    def run():
        raise PermissionError(errno.EACCES, "Permission denied", "locked/corpus")

    assert end_of(run) == (
        "locked/corpus: Permission denied; put that right and repeat the command."
    )

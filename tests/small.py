"""Small models of both tasks, trained within a second by programs of their own."""

import contextlib
import json
from pathlib import Path
from typing import NamedTuple

import pytest

from dsc.cli.errors import RunError
from tests.stress import programs

WINDOWS = ("--batch_size=4", "--num_unroll_steps=6")
LANGUAGE = ("--rnn_size=8", "--rnn_layers=1", "--agent_units=5", *WINDOWS)
NUMBERS = ("--rnn_size=6", "--n_actions=3", "--agent_units=4", "--batch_size=8")
NUMBERS += ("--nojit_compile",)  # XLA would compile longer than they train


class Trained(NamedTuple):
    """A run, and the lines that its training printed."""

    run: Path
    out: list


def train_language(folder, corpus, *arguments):
    """Trains a small language model; its run is in `folder/run`."""
    places = (f"--data_dir={corpus}", "--train_dir=run", "--print_every=5")
    result = programs.run(folder, programs.LANGUAGE, *LANGUAGE, *places, *arguments)
    return Trained(folder / "run", succeeds(result).out)


def train_numbers(folder, digits, *arguments):
    """Trains a small model of number prediction; its run is in `folder/run`."""
    places = (f"--data_dir={digits}", "--train_dir=run", "--print_every=3")
    result = programs.run(folder, programs.NUMBERS, *NUMBERS, *places, *arguments)
    return Trained(folder / "run", succeeds(result).out)


def succeeds(result):
    """Fails the test unless a program exited with 0; returns its `Result`."""
    assert result.code == 0, "\n".join((*result.out[-5:], *result.err))
    return result


@contextlib.contextmanager
def refused(*texts):
    """A `RunError` is raised inside; its message is one line and has these texts."""
    with pytest.raises(RunError) as error:
        yield
    message = str(error.value)
    assert "\n" not in message
    for text in texts:
        assert text in message


def contents(folder):
    """Dict from the files below a folder, relative to it, to their bytes."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def metrics(run):
    """The records of a run, a list of dicts."""
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def best_weights(run):
    """The file with the best weights of a run."""
    (path,) = (run / "best").iterdir()
    return path

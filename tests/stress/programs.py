"""Runs the project's programs as processes that start fast.

Each is forked from a process that has imported TensorFlow, which takes longer than most
short runs.
"""

import multiprocessing
import os
import re
import runpy
import sys
from pathlib import Path
from typing import NamedTuple

from dsc.cli import startup
from language_modeling.agreement import grammar
from number_prediction import produce_data

ROOT = Path(__file__).resolve().parents[2]
LANGUAGE = ROOT / "language_modeling" / "rl_train.py"
NUMBERS = ROOT / "number_prediction" / "rl_train.py"
PLOT_RUN = ROOT / "scripts" / "plot_run.py"
PLOT_PLACES = ROOT / "scripts" / "plot_places.py"
PLOT_SKIPS = ROOT / "scripts" / "plot_skips.py"
PRODUCE = ROOT / "number_prediction" / "produce_data.py"

# The fork server preloads this clone's code, with the scripts' Keras settings.
os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *sys.path])
startup.fix_settings("tensorflow")
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["language_modeling.task", "number_prediction.task"])


class Result(NamedTuple):
    """How a program ended.

    Attributes:
        code: exit code; minus the number of the signal that killed it; None if it took
            too long.
        out, err: the lines that it printed, but for `startup.MESSAGES`.
    """

    code: int | None
    out: list
    err: list


def write_data(folder, n_words, n_sequences):
    """Writes data of both tasks, in `corpus` and `digits`; a size for each split."""
    grammar.write(folder / "corpus", 3, *n_words)
    sizes = dict(zip(("train", "valid", "test"), n_sequences, strict=True))
    for released in (False, True):
        path = folder / "digits" / produce_data.file_name(10, released)
        produce_data.write(path, 10, sizes, seed=3435, released_data=released)


def start(folder, script, *arguments, **environment):
    """Starts `python SCRIPT ARGUMENTS` in a folder, the output in files there."""
    folder.mkdir(exist_ok=True)
    arguments = with_cache(folder, script, arguments)
    process = SERVER.Process(
        target=_become,
        args=([str(a) for a in (script, *arguments)], folder, environment),
    )
    process.start()
    return process


def with_cache(folder, script, arguments):
    """The arguments with a cache of corpora that programs in sibling folders share."""
    if script in (LANGUAGE, PLOT_SKIPS):
        return (f"--cache_dir={folder.parent / 'cache'}", *arguments)
    return arguments


def finish(process, folder, timeout=None):
    """Waits for a process that `start` began, and returns its `Result`."""
    process.join(timeout)
    code = process.exitcode
    if code is None:
        process.kill()
        process.join()
    out, err = (
        (folder / name).read_text(errors="replace") if (folder / name).exists() else ""
        for name in ("stdout", "stderr")
    )
    # Those of the preloaded TensorFlow, in programs that do not import it.
    err = [line for line in err.splitlines() if not re.match(startup.MESSAGES, line)]
    return Result(code, out.splitlines(), err)


def run(folder, script, *arguments, timeout=None):
    """Runs a program to its end; see `start` and `finish`."""
    return finish(start(folder, script, *arguments), folder, timeout)


def _become(arguments, folder, environment):
    os.environ.update(environment)
    for number, name in (1, "stdout"), (2, "stderr"):
        os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.chdir(folder)
    sys.argv = arguments
    runpy.run_path(arguments[0], run_name="__main__")

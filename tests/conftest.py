"""Settings of TensorFlow and JAX, and fixtures that several modules share."""

import os
import runpy
import signal
import sys
import tempfile
from unittest import mock

# Read when TensorFlow or JAX is imported, here and in the programs that tests start.
if "PYTEST_XDIST_WORKER" not in os.environ:  # a worker inherits what is set here
    # XLA compiles each program for seconds, so all processes share a cache.
    compiled = tempfile.TemporaryDirectory(prefix="compiled-")
    os.environ |= {
        "TF_XLA_FLAGS": f"--tf_xla_persistent_cache_directory={compiled.name}",
        "JAX_COMPILATION_CACHE_DIR": compiled.name,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        # Less optimised, in a third of the time; results differ by rounding.
        "XLA_FLAGS": "--xla_backend_optimization_level=0"
        " --xla_cpu_use_fusion_emitters=false"
        " --xla_cpu_parallel_codegen_split_count=1",
    }

import numpy as np
import pytest
import small

import language_modeling
import number_prediction
from dsc.cli import signals as interruption
from dsc.cli import startup
from tests.stress import programs

# Tests send them; a shell (or nohup) lets what it starts in the background ignore them.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# Here and in the programs that tests start; `test_backends` sets another one.
startup.fix_settings(os.environ.get("TESTED_BACKEND", "tensorflow"))


@pytest.fixture
def rng():
    """A NumPy generator; Keras's generators start from the same seed."""
    import keras  # not at the top: some tests need no TensorFlow

    keras.utils.set_random_seed(3435)
    return np.random.default_rng(3435)


@pytest.fixture(scope="module")
def eagerly():
    """Compiles no functions, which would take longer than they run."""
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture
def terminal(monkeypatch, capsys):
    """Makes the standard output a terminal."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(type(sys.stdout), "isatty", lambda self: True)


@pytest.fixture
def signals():
    """Installs the programs' signal handlers for the duration of a test."""
    before = {number: signal.getsignal(number) for number in interruption.SIGNALS}
    interruption.exit_on_signals()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def call(monkeypatch, capsys, signals):
    """A function that runs a program in this process.

    `call(folder, script, *arguments)` returns what `programs.run` does. It starts
    within milliseconds, but signals and JAX need a process of their own.
    """

    def run(folder, script, *arguments):
        arguments = programs.with_cache(folder, script, arguments)
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", [str(a) for a in (script, *arguments)])
        for task in (language_modeling, number_prediction):  # flags are defined anew
            monkeypatch.delitem(sys.modules, f"{task.__name__}.flags", raising=False)
            monkeypatch.delattr(task, "flags", raising=False)
        capsys.readouterr()
        end = None
        with mock.patch.object(sys, "stdout", sys.stdout), mock.patch.dict(os.environ):
            try:
                runpy.run_path(str(script), run_name="__main__")
            except SystemExit as raised:
                end = raised.code
        out, err = capsys.readouterr()
        if isinstance(end, str):  # a message, which Python prints to stderr
            end, err = 1, f"{err}{end}\n"
        return programs.Result(end or 0, out.splitlines(), err.splitlines())

    return run


@pytest.fixture(scope="session")
def ptb():
    """The folder of the Penn Treebank; without one the test is skipped."""
    root = programs.ROOT
    folders = (root / "data" / "ptb", root.parent / "shared" / "data" / "ptb")
    found = next((folder for folder in folders if folder.is_dir()), None)
    return found or pytest.skip("no Penn Treebank in data/ptb (scripts/get_ptb.py)")


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """A folder with small data of both tasks, in `corpus` and `digits`."""
    folder = tmp_path_factory.mktemp("data")
    programs.write_data(folder, (600, 150, 140), (60, 30, 50))
    return folder


@pytest.fixture(scope="session")
def language_run(data):
    """A language model trained for two epochs: `small.Trained`."""
    return small.train_language(data / "language", data / "corpus", "--max_epochs=2")


@pytest.fixture(scope="session")
def number_run(data):
    """Number prediction trained for two epochs: `small.Trained`."""
    return small.train_numbers(data / "numbers", data / "digits", "--max_epochs=2")

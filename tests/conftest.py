"""Quiet TensorFlow that compiles once, and the same random numbers in every run."""

import os
import signal
import tempfile

# Read when TensorFlow or JAX is imported, here and in the programs that tests start.
if "PYTEST_XDIST_WORKER" not in os.environ:  # a worker has what the first process set
    # XLA takes seconds for each program, so it keeps what it compiled for all others.
    compiled = tempfile.TemporaryDirectory(prefix="compiled-")
    os.environ |= {
        "TF_XLA_FLAGS": f"--tf_xla_persistent_cache_directory={compiled.name}",
        "JAX_COMPILATION_CACHE_DIR": compiled.name,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "XLA_FLAGS": "--xla_backend_optimization_level=0",
    }

import numpy as np
import pytest

from dsc.cli import signals as interruption
from dsc.cli import startup

startup.fix_settings("tensorflow")  # here and in the programs that tests start


@pytest.fixture
def rng():
    """A NumPy generator; Keras's own generators start from the same seed."""
    import keras  # here, because some tests need no TensorFlow

    keras.utils.set_random_seed(3435)
    return np.random.default_rng(3435)


@pytest.fixture
def signals():
    """The programs' handlers of signals, for as long as a test takes."""
    before = {number: signal.getsignal(number) for number in interruption.SIGNALS}
    interruption.exit_on_signals()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)

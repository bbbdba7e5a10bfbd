"""Quiet TensorFlow, and the same random numbers in every run."""

import os
import signal

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # read when TensorFlow is imported

import numpy as np
import pytest

from dsc import interruption


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

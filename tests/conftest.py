"""Quiet TensorFlow, and the same random numbers in every run."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # read when TensorFlow is imported

import numpy as np
import pytest


@pytest.fixture
def rng():
    """A NumPy generator; Keras's own generators start from the same seed."""
    import keras  # here, because some tests need no TensorFlow

    keras.utils.set_random_seed(3435)
    return np.random.default_rng(3435)

"""Importing Keras with fixed settings and without start-up messages."""

import contextlib
import os
import subprocess
import sys

# Environment variables that change the results: random numbers or precision.
CHANGING = ("KERAS_", "JAX_DEFAULT_", "JAX_ENABLE_X64", "JAX_NUMPY_", "JAX_THREEFRY_")
# Packages that TensorFlow and Keras import if they are there, for conversions and plots
# that the programs do not use: two of the five seconds of a start.
HIDDEN = {"tensorflow": ("jax", "matplotlib", "scipy"), "jax": ("matplotlib",)}
# TensorFlow prints these whatever TF_CPP_MIN_LOG_LEVEL is; 303: no CUDA driver.
MESSAGES = (
    r"WARNING: All log messages before absl::InitializeLog|I\d{4} "
    r"|E\d{4} .*failed call to cuInit: .*\(303\)$"
)
FILTER = """import re, sys
for line in sys.stdin.buffer:
    re.match(sys.argv[1].encode(), line) or sys.stdout.buffer.write(line)"""


def fix_settings(name):
    """Sets the backend and drops the user's settings, before Keras is imported."""
    for variable in [v for v in os.environ if v.startswith(CHANGING)]:
        del os.environ[variable]
    # There Keras finds no keras.json and cannot write one.
    os.environ |= {"KERAS_BACKEND": name, "KERAS_HOME": os.devnull}
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # errors only


@contextlib.contextmanager
def _without(packages):
    """Context in which packages that are not imported yet seem not to be installed."""
    hidden = dict.fromkeys(set(packages) - sys.modules.keys())
    sys.modules.update(hidden)
    try:
        yield
    finally:
        for package in hidden:
            del sys.modules[package]


@contextlib.contextmanager
def backend(name):
    """Context in which to import Keras; hides `MESSAGES` on stderr."""
    fix_settings(name)
    with _without(HIDDEN.get(name, ())), _quiet(name):
        yield


@contextlib.contextmanager
def _quiet(name):
    if sys.stderr is None or os.environ["TF_CPP_MIN_LOG_LEVEL"] < "2":
        yield  # stderr is closed, or the user asks for messages
        return
    stderr = os.dup(2)
    command = [sys.executable, "-ISc", FILTER, MESSAGES]
    # In its own session, the process survives Ctrl-C and a crash of this one.
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=stderr, start_new_session=True
    ) as process:
        try:
            os.dup2(process.stdin.fileno(), 2)
            yield
            if name == "tensorflow":
                import tensorflow

                tensorflow.config.list_physical_devices()  # prints some, too
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)

"""The import of Keras by a script: fixed settings, without start-up messages."""

import contextlib
import os
import subprocess
import sys

# Variables with which JAX draws other random numbers or computes in another precision.
JAX = (
    "JAX_DEFAULT_MATMUL_PRECISION",
    "JAX_DEFAULT_PRNG_IMPL",
    "JAX_ENABLE_X64",
    "JAX_NUMPY_DTYPE_PROMOTION",
    "JAX_THREEFRY_PARTITIONABLE",
)
# What TensorFlow prints whatever TF_CPP_MIN_LOG_LEVEL is: information, and as an error
# that there is no CUDA driver (303).
MESSAGES = (
    r"WARNING: All log messages before absl::InitializeLog|I\d{4} "
    r"|E\d{4} .*failed call to cuInit: .*\(303\)$"
)
FILTER = """import re, sys
for line in sys.stdin.buffer:
    if not re.match(sys.argv[1].encode(), line):
        sys.stdout.buffer.write(line)"""


def fix_settings(name):
    """Fixes what a user's `keras.json` and environment could change in the results.

    To be called before the import of Keras.

    Args:
        name: of Keras's backend.
    """
    for variable in (*JAX, *(v for v in os.environ if v.startswith("KERAS_"))):
        os.environ.pop(variable, None)
    # In the null device there is no keras.json, and Keras can write none.
    os.environ |= {"KERAS_BACKEND": name, "KERAS_HOME": os.devnull}
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # errors only


@contextlib.contextmanager
def backend(name):
    """Keras is to be imported inside, with this backend and `fix_settings`.

    What is written to the standard error inside appears there, but for `MESSAGES`.
    """
    fix_settings(name)
    asked_for = os.environ["TF_CPP_MIN_LOG_LEVEL"] < "2"
    with contextlib.nullcontext() if asked_for else _without_messages():
        yield
        if name == "tensorflow":
            import tensorflow

            tensorflow.config.list_physical_devices()  # which has messages as well


@contextlib.contextmanager
def _without_messages():
    """Sends the standard error through a process, which would outlive a crash."""
    if sys.stderr is None:  # closed by the shell
        yield
        return
    stderr = os.dup(2)
    with subprocess.Popen(
        [sys.executable, "-ISc", FILTER, MESSAGES],
        stdin=subprocess.PIPE,
        stdout=stderr,
        start_new_session=True,  # Ctrl-C is not for it
    ) as process:
        os.dup2(process.stdin.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)

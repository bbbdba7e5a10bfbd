"""Fixed settings and no start-up messages when a script imports Keras."""

import contextlib
import os
import subprocess
import sys

# Environment variables that change the results: random numbers or precision.
CHANGING = ("KERAS_", "JAX_DEFAULT_", "JAX_ENABLE_X64", "JAX_NUMPY_", "JAX_THREEFRY_")
# What TensorFlow prints whatever TF_CPP_MIN_LOG_LEVEL is: information, and an error if
# there is no CUDA driver (303).
MESSAGES = (
    r"WARNING: All log messages before absl::InitializeLog|I\d{4} "
    r"|E\d{4} .*failed call to cuInit: .*\(303\)$"
)
FILTER = """import re, sys
for line in sys.stdin.buffer:
    re.match(sys.argv[1].encode(), line) or sys.stdout.buffer.write(line)"""


def fix_settings(name):
    """Before Keras is imported: sets its backend and drops the user's settings."""
    for variable in [v for v in os.environ if v.startswith(CHANGING)]:
        del os.environ[variable]
    # There is no keras.json in the null device, and Keras cannot write one.
    os.environ |= {"KERAS_BACKEND": name, "KERAS_HOME": os.devnull}
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # errors only


@contextlib.contextmanager
def backend(name):
    """Context to import Keras in: `fix_settings`, and no `MESSAGES` on stderr."""
    fix_settings(name)
    if sys.stderr is None or os.environ["TF_CPP_MIN_LOG_LEVEL"] < "2":
        yield  # closed by the shell, or the messages are asked for
        return
    stderr = os.dup(2)
    command = [sys.executable, "-ISc", FILTER, MESSAGES]
    # A process in a session of its own: it survives a crash of this one, and Ctrl-C.
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=stderr, start_new_session=True
    ) as process:
        try:
            os.dup2(process.stdin.fileno(), 2)
            yield
            if name == "tensorflow":
                import tensorflow

                tensorflow.config.list_physical_devices()  # has messages as well
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)

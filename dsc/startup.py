"""The import of Keras by a script: fixed settings, without start-up messages."""

import contextlib
import os
import subprocess
import sys

# Variables that change what is computed: other random numbers, another precision.
CHANGING = ("KERAS_", "JAX_DEFAULT_", "JAX_ENABLE_X64", "JAX_NUMPY_", "JAX_THREEFRY_")
# What TensorFlow prints whatever TF_CPP_MIN_LOG_LEVEL is: information, and as an error
# that there is no CUDA driver (303).
MESSAGES = (
    r"WARNING: All log messages before absl::InitializeLog|I\d{4} "
    r"|E\d{4} .*failed call to cuInit: .*\(303\)$"
)
FILTER = """import re, sys
for line in sys.stdin.buffer:
    re.match(sys.argv[1].encode(), line) or sys.stdout.buffer.write(line)"""


def fix_settings(name):
    """Leaves a Keras that is imported now the backend `name` and no user's settings."""
    for variable in [v for v in os.environ if v.startswith(CHANGING)]:
        del os.environ[variable]
    # In the null device there is no keras.json, and Keras can write none.
    os.environ |= {"KERAS_BACKEND": name, "KERAS_HOME": os.devnull}
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # errors only


@contextlib.contextmanager
def backend(name):
    """Keras is to be imported inside, after `fix_settings` and without `MESSAGES`."""
    fix_settings(name)
    if sys.stderr is None or os.environ["TF_CPP_MIN_LOG_LEVEL"] < "2":
        yield  # closed by the shell, or the messages are asked for
        return
    stderr = os.dup(2)
    command = [sys.executable, "-ISc", FILTER, MESSAGES]
    # A process: it outlives a crash of this one, and not being of this session, Ctrl-C.
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=stderr, start_new_session=True
    ) as process:
        os.dup2(process.stdin.fileno(), 2)
        try:
            yield
            if name == "tensorflow":
                import tensorflow

                tensorflow.config.list_physical_devices()  # has messages as well
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)

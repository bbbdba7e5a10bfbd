"""Runs a script in a new process that cannot import certain modules.

    python tests/isolated.py tensorflow,jax SCRIPT ARGUMENTS

`start` does so from a test.
"""

import importlib.util
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
needs_jax = pytest.mark.skipif(
    importlib.util.find_spec("jax") is None, reason="needs jax: pip install -e '.[jax]'"
)


def start(script, *arguments, without="tensorflow", backend="jax"):
    """Starts a script that can import the project and the helpers of these tests.

    Args:
        script: path, relative to this folder or absolute.
        *arguments: of the script.
        without: names of modules that cannot be imported, separated by commas.
        backend: of Keras.

    Returns:
        `subprocess.Popen`, with text of stdout and stderr in pipes.
    """
    paths = [TESTS, TESTS.parent, TESTS.parent / "scripts"]
    paths += filter(None, [os.environ.get("PYTHONPATH")])
    path = os.pathsep.join(map(str, paths))
    return subprocess.Popen(
        [sys.executable, __file__, without, TESTS / script, *map(str, arguments)],
        env={**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def succeeds(process):
    """Waits for the process, which must succeed; returns the lines that it printed."""
    out, err = process.communicate()
    assert process.returncode == 0, err
    return out.splitlines()


if __name__ == "__main__":
    modules, *sys.argv = sys.argv[1:]
    sys.modules.update(dict.fromkeys(modules.split(",")))
    runpy.run_path(sys.argv[0], run_name="__main__")

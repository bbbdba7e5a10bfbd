"""Code of its own process under JAX, as if TensorFlow were not installed."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

needs_jax = pytest.mark.skipif(
    importlib.util.find_spec("jax") is None, reason="needs jax: pip install -e '.[jax]'"
)


def python(code, *arguments, backend="jax"):
    """Starts Python code that finds the project, and these tests' own modules."""
    here = Path(__file__).parent
    paths = [str(here), str(here.parent), os.environ.get("PYTHONPATH", "")]
    code = f"import sys; sys.modules['tensorflow'] = None\n{code}"
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={
            **os.environ,
            "KERAS_BACKEND": backend,
            "PYTHONPATH": os.pathsep.join(paths),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def succeeds(process):
    """The lines that it prints, once it has ended well."""
    out, err = process.communicate()
    assert process.returncode == 0, err
    return out.splitlines()

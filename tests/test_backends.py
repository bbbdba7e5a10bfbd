"""The layer and `fit` on the other backends of Keras: the same tests as here."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
MODULES = "test_drop_in.py", "test_reinforced.py"


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_the_layer_passes_its_tests_on(backend):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"needs {backend}: pip install -e '.[{backend}]'")
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-m", "", *(TESTS / name for name in MODULES)],
        env={**os.environ, "TESTED_BACKEND": backend},
        cwd=TESTS.parent,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout

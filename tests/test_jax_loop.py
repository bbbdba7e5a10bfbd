"""The layer under JAX: its fast loop and the NumPy loop compute the same."""

import isolated
import pytest


@isolated.needs_jax
@pytest.mark.slow
@pytest.mark.parametrize("script", ["fast_loop.py", "numpy_loop.py"])
def test_results_and_gradients_under_jax(script):
    isolated.succeeds(isolated.start(f"on_jax/{script}"))

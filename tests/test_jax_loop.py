"""The layer under JAX: its fast loop, and number prediction with it."""

import isolated
import pytest


@isolated.needs_jax
@pytest.mark.slow
@pytest.mark.parametrize("script", ["fast_loop.py", "layer_and_numbers.py"])
def test_results_and_gradients_under_jax(script):
    isolated.succeeds(isolated.start(f"on_jax/{script}"))

"""The layer under JAX: its fast loop and the plain one compute the same."""

import isolated
import pytest


@isolated.needs_jax
@pytest.mark.slow
def test_results_and_gradients_under_jax():
    isolated.succeeds(isolated.start("on_jax/fast_loop.py"))

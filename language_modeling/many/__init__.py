"""Many language models of one shape, trained in one program under JAX."""

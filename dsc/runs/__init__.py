"""A run on disk: flags, metrics, checkpoints, event files. Knows no training loop."""

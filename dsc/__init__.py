"""LSTM with dynamic skip connections (Gui et al., AAAI 2019) for Keras 3."""

import importlib

__all__ = ["DSCLSTM", "DSCLSTMCell", "Skips", "losses"]

_HOMES = {"DSCLSTM": "dsc.layer", "DSCLSTMCell": "dsc.cell", "Skips": "dsc.layer"}


def __getattr__(name):
    """Imports a public name when it is first used.

    Keras takes seconds to import, and a script that only writes files needs none of it.
    """
    if name == "losses":
        return importlib.import_module("dsc.losses")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""LSTM with dynamic skip connections (Gui et al., AAAI 2019) for Keras 3.

    from dsc import DSCLSTM

`DSCLSTM` is the layer, `DSCLSTMCell` one step of it, `Skips` what the layer returns for
the policy loss, and `losses` the loss itself.
"""

import importlib

__version__ = "0.2.0"
__all__ = ["DSCLSTM", "DSCLSTMCell", "Skips", "losses"]

_MODULES = {"DSCLSTM": "dsc.layer", "DSCLSTMCell": "dsc.cell", "Skips": "dsc.layer"}


def __getattr__(name):
    """Imports a public name when it is first used: importing Keras takes seconds."""
    if name == "losses":
        return importlib.import_module("dsc.losses")
    if name in _MODULES:
        return getattr(importlib.import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return [*__all__, "__version__"]

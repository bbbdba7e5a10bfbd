"""LSTM with dynamic skip connections (Gui et al., AAAI 2019) for Keras 3.

    from dsc import DSCLSTM

`DSCLSTM` is the layer, and `Reinforced` a `keras.Model` whose `fit` trains its agent.
`DSCLSTMCell` is one step, `Skips` what the layer returns for a training loop of your
own, and `losses` has the policy loss.
"""

import importlib

__version__ = "0.2.0"
__all__ = ["DSCLSTM", "DSCLSTMCell", "Reinforced", "Skips", "losses"]

_MODULES = {
    "DSCLSTM": "dsc.layer",
    "DSCLSTMCell": "dsc.cell",
    "Reinforced": "dsc.reinforced",
    "Skips": "dsc.layer",
}


def __getattr__(name):
    """Imports a public name when it is first used: importing Keras takes seconds."""
    if name == "losses":
        return importlib.import_module("dsc.losses")
    if name in _MODULES:
        return getattr(importlib.import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return [*__all__, "__version__"]

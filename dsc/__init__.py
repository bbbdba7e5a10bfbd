"""LSTM with dynamic skip connections (Gui et al., AAAI 2019) for Keras 3."""

from dsc import losses
from dsc.cell import DSCLSTMCell
from dsc.layer import DSCLSTM, Skips

__all__ = ["DSCLSTM", "DSCLSTMCell", "Skips", "losses"]

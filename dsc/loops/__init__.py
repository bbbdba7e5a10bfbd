"""Fast time loops of `DSCLSTM`, one for each backend that has one.

`dsc/cell.py` defines the step; a loop computes the same over time, and the tests hold
the two together. `fast.py` has what the loops share, and each backend's file its walk
over time.
"""

"""Fast time loops of `DSCLSTM`, one for each backend that has one.

`dsc/cell.py` defines the step; a loop computes the same over time, and the tests hold
the two together. Each loop is one function, `dsc_lstm`.
"""

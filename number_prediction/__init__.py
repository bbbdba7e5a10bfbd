"""Number prediction; see `produce_data.py`."""

# In an epoch's record: the validation sequences by index digit and last greedy choice.
LAST_ACTIONS = "valid last actions by index"

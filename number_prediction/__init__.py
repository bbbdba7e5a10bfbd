"""Number prediction; see `produce_data.py`."""

# Key of an epoch's record: validation sequences by index and last greedy action.
LAST_ACTIONS = "valid last actions by index"

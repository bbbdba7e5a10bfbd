"""Training of any task: one step, the loop over epochs, reports, resuming."""

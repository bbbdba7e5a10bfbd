"""Training on several devices or machines, with the results of one device."""

"""What all command lines share: flags, errors, signals, progress, start-up."""

"""Training from Python: one call in a script, a notebook or under torchrun, and the run that it gives."""

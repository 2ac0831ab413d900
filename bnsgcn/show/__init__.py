"""What a run looks like on a terminal, in a notebook and in a log."""

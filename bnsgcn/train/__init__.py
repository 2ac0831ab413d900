"""The training loop and what it needs: hop sets, optimiser, gradients, scores, checkpoints."""

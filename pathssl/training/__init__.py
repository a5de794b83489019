"""The loop, the optimiser, checkpoints and tracking. Knows no method and no cluster."""

"""Slides -> patches: which patch is the i-th of a run, and how batches of them reach the trainer."""

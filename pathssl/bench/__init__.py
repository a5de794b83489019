"""Measurements beside the peers': what `python -m pathssl bench WHAT` prints."""

"""Frozen encoder -> features -> numbers: labelled tasks, protocols, nulls and label-free metrics."""

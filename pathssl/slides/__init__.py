"""Whole-slide images: readers, foreground, the index of slides, the synthetic cohort."""

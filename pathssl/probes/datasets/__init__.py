"""Labelled datasets that others published, each read in the layout in which it is handed out: a file a dataset."""

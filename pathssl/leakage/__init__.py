"""Does the evaluation know what was trained on? Names and pictures of the training slides against those of labelled sets."""

CHOICES = ("refuse", "label", "ignore")  # of leakage.on_overlap

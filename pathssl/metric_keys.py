"""What the key of a metric says: of what it is, and which way is better."""

# Of everything else, more is better. A site that can be told beyond chance is a shortcut.
_LESS_IS_BETTER = ("loss", "odcorr", "stain_distance", "stain_flips", "site_balanced_accuracy")

# What is recorded to read others by: neither more nor less of it is better.
_DESCRIPTIVE = ("unsupervised/apart", "unsupervised/site_chance")

# What has learned nothing, by the same protocol; results and predictions of `<protocol>_<null>` stand beside the protocol's own.
NULLS = ("random_weights", "colour_histogram")


def of_null(key: str) -> bool:
    """Whether a metric's key is of a null: probe/<task>/<protocol>_<null>/..."""
    return any(f"_{null}/" in key for null in NULLS)


def metric_key(task: str, name: str) -> str:
    """`probe/<task>/<protocol>/<split>/<metric>`; for the task "unsupervised", `unsupervised/<metric>`."""
    return f"unsupervised/{name}" if task == "unsupervised" else f"probe/{task}/{name}"


def validation_of(key: str) -> str | None:
    """The key of the same metric on the split to choose by; None where the metric is not on test."""
    return key.replace("/test/", "/val/") if "/test/" in key else None


def descriptive(key: str) -> bool:
    """Whether a metric has no better end: how far patches are apart, and what guessing a site gives."""
    return key in _DESCRIPTIVE


def higher_is_better(key: str) -> bool:
    """By a metric's key: not of the loss, of ODCorr, of what stains do to features and predictions, and of how well sites are told."""
    return not key.rsplit("/", 1)[-1].startswith(_LESS_IS_BETTER)

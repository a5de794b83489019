"""pathssl: hyperparameter ablations of self-supervised pathology foundation models."""

__version__ = "0.1.0"

"""The synthetic cohort: real pyramidal H&E-like slides, labelled patches and nucleus masks from a seed."""

from pathssl.slides.synthetic.cohort import write_cohort
from pathssl.slides.synthetic.tissue import TISSUES

__all__ = ["TISSUES", "write_cohort"]

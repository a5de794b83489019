"""What works on this machine, and how to mend what does not."""

from pathssl.doctor.examination import examine

__all__ = ["examine"]

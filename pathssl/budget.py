"""budget.max_gpu_hours: what it may be."""

from pathssl.errors import UserError


def check_budget(hours: object) -> None:
    """UserError for a budget.max_gpu_hours that is no number of hours, nor null."""
    if hours is not None and (isinstance(hours, bool) or not isinstance(hours, int | float) or hours < 0):
        raise UserError(f"budget.max_gpu_hours={hours} must be a number of hours, or null for no limit.")

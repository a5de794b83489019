"""Does the evaluation know what was trained on? Names and pictures of the training slides against those of labelled sets."""

from pathssl.errors import UserError

CHOICES = ("refuse", "label", "ignore")  # of leakage.on_overlap


def check_action(action: str) -> str:
    """`action`, which must be one of CHOICES."""
    if action not in CHOICES:
        raise UserError(f"leakage.on_overlap={action} is not one of {', '.join(CHOICES)}.")
    return action

"""Does the evaluation know what was trained on? Names and pictures of the training slides against those of labelled sets."""

from typing import Any

from pathssl.errors import UserError

CHOICES = ("refuse", "label", "ignore")  # of leakage.on_overlap


def check_action(action: str) -> str:
    """`action`, which must be one of CHOICES."""
    if action not in CHOICES:
        raise UserError(f"leakage.on_overlap={action} is not one of {', '.join(CHOICES)}.")
    return action


def check_trained_on(tasks: Any) -> list[str]:
    """`tasks`, which must be names."""
    if not isinstance(tasks, list) or not all(isinstance(name, str) for name in tasks):
        raise UserError(f"leakage.trained_on={tasks}: give the names of tasks, as in leakage.trained_on=[tp53], or [].")
    return tasks

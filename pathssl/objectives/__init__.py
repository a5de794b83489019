"""What is learned: views -> targets of the teacher -> losses of the student. `after_step(values)` moves the teacher."""

from pathssl.objectives.dino import DINO
from pathssl.objectives.dinov2 import DINOv2

__all__ = ["DINO", "DINOv2"]

"""What is learned: views -> losses. `forward(views, values)` gives the loss and its terms; `after_step(values)` moves the teacher."""

from pathssl.objectives.dino import DINO

__all__ = ["DINO"]

"""Frozen encoder -> maps of patch tokens -> heads that draw masks -> Dice and mIoU: tasks of images and masks, and their protocols."""

"""Raw patches -> DINO multi-crop views: in batch, on the patches' device, each a pure function of pixels and seed."""

from pathssl.augment.multicrop import MultiCrop

__all__ = ["MultiCrop"]

"""DINO multi-crop views of a batch of patches (Caron et al. 2021; our additions are named in `MultiCrop`).

Axes: v view of a kind, b patch, n = (v b), c channel, h/w row/column.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from einops import rearrange

from pathssl.augment.blur import Blur
from pathssl.augment.colour import Grey, Jitter, Solarise
from pathssl.augment.crop import Crop, source_tables
from pathssl.augment.draws import Stream
from pathssl.augment.settings import interval, pixels, term, within
from pathssl.augment.stain import Hed
from pathssl.devices import on
from pathssl.errors import UserError

GLOBAL_VIEWS = 2
# View values worked on at a time. On a CPU, small buffers stay near its caches and are reused by the allocator instead
# of being mapped anew (measured); elsewhere the number only bounds the memory.
CHUNK_VALUES = {"cpu": 2**21}
CHUNK_VALUES_ELSEWHERE = 2**27


class MultiCrop:
    """Two global and `local_crops` local views of every patch: crop and resize, flips and turns, HED jitter, colour
    jitter, grey, blur, solarise, normalise, in this order (published, but for turns, vertical flips and HED, which are
    ours).

    `hed`, `jitter`, `grey`, `blur`, `solarise` are the settings of the classes of these names, or None to switch one
    off.

    Tested to equal references on floats in [0, 1] with the same parameters: torchvision v2's antialiased resized_crop within
    2e-6, its gaussian_blur within 1e-6, each of its colour adjustments within 1e-5 (four in a row 3e-5), scikit-image's
    rgb2hed and hed2rgb within 1e-5 where no stain is negative (see `Hed`); whole normalised views within 1e-4.
    """

    def __init__(
        self,
        *,
        global_px: int,
        local_px: int,
        local_crops: int,
        global_scale: Sequence[float],
        local_scale: Sequence[float],
        ratio: Sequence[float],
        horizontal_flip: float,
        vertical_flip: float,
        turn: bool,
        hed: Mapping | None,
        jitter: Mapping | None,
        grey: Mapping | None,
        blur: Mapping | None,
        solarise: Mapping | None,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        ratio = interval("ratio", ratio, 0, float("inf"))
        if not ratio[0] <= 1 <= ratio[1]:
            raise UserError(f"augmentation ratio={list(ratio)}: it must include 1, such as [0.75, 1.3333].")
        if not isinstance(local_crops, int) or local_crops < 0:
            raise UserError(f"augmentation local_crops={local_crops}: it must be a whole number, 0 or more.")
        orientation = {
            "horizontal_flip": within("horizontal_flip", horizontal_flip, 0, 1),
            "vertical_flip": within("vertical_flip", vertical_flip, 0, 1),
            "turn": bool(turn),
        }
        scales = {"global": ("global_scale", global_scale), "local": ("local_scale", local_scale)}
        sizes = {"global": pixels("global_px", global_px), "local": pixels("local_px", local_px)}
        self.views = {"global": GLOBAL_VIEWS, "local": local_crops}
        self.crops = {
            kind: Crop(view_px=sizes[kind], scale=interval(*scales[kind], 0, 1), ratio=ratio, **orientation)
            for kind in ("global", "local")
        }
        terms = {
            "hed": term(Hed, "hed", hed),
            "jitter": term(Jitter, "jitter", jitter),
            "grey": term(Grey, "grey", grey),
            "blur": term(Blur, "blur", blur),
            "solarise": term(Solarise, "solarise", solarise),
        }
        self.terms = {name: part for name, part in terms.items() if part is not None}
        if blur is not None and self.terms["blur"].radius_px >= min(sizes.values()):
            raise UserError(
                f"augmentation blur.sigma={list(blur['sigma'])}: its kernel reaches {self.terms['blur'].radius_px} px, "
                f"too far for views of {min(sizes.values())} px; take a smaller sigma or larger views."
            )
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise UserError(f"augmentation mean={list(mean)}, std={list(std)}: both need three numbers, std above 0.")
        self.mean, self.std = np.array(mean, float), np.array(std, float)

    def draw(self, seeds: np.ndarray, patch_px: int) -> dict[str, dict[str, dict[str, np.ndarray]]]:
        """Every parameter of every view: kind ("global", "local") -> term ("crop", ...) -> name -> (v, b, ...)."""
        streams = {kind: Stream(kind, views, np.asarray(seeds)) for kind, views in self.views.items()}
        return {
            kind: {"crop": self.crops[kind].draw(stream, patch_px)}
            | {name: part.draw(stream) for name, part in self.terms.items()}
            for kind, stream in streams.items()
        }

    @torch.no_grad()
    def __call__(self, patches_BHWC: torch.Tensor, seeds: np.ndarray) -> dict[str, torch.Tensor]:
        """{"global": (2, b, 3, G, G), "local": (local_crops, b, 3, l, l)} float32, normalised, on the patches' device.

        `patches_BHWC` uint8, square; `seeds` (b,) 64-bit integers, one per patch. The views of a patch depend on its
        pixels and its seed alone. On a CPU they are the same to the bit in any batch; on a GPU the mean grey of a view
        (contrast) may be summed in another order in a batch of another size, which moves the last bit.
        """
        b, patch_px, width_px, channels = patches_BHWC.shape
        if patches_BHWC.dtype != torch.uint8 or width_px != patch_px or channels != 3 or len(seeds) != b:
            raise UserError(
                f"{tuple(patches_BHWC.shape)} {patches_BHWC.dtype} patches with {len(seeds)} seeds: views are made of "
                "square (batch, px, px, 3) uint8 patches with one seed each."
            )
        device = patches_BHWC.device
        drawn = self.draw(seeds, patch_px)
        mean, std = (on(device, values)[:, None, None] for values in (self.mean, self.std))
        views = {
            kind: torch.empty((count, b, 3, crop.view_px, crop.view_px), device=device)
            for (kind, count), crop in zip(self.views.items(), self.crops.values(), strict=True)
        }
        per_patch = sum(count * 3 * self.crops[kind].view_px ** 2 for kind, count in self.views.items())
        step = max(1, CHUNK_VALUES.get(device.type, CHUNK_VALUES_ELSEWHERE) // per_patch)
        for start in range(0, b, step):
            chunk = slice(start, start + step)
            tables = source_tables(patches_BHWC[chunk], turned=self.crops["global"].turn)
            for kind in (kind for kind, count in self.views.items() if count):
                images = self._images(kind, tables, _of_patches(drawn[kind], chunk))
                out = views[kind][:, chunk]
                torch.sub(rearrange(images, "(v b) c h w -> v b c h w", v=self.views[kind]), mean, out=out).div_(std)
        return views

    def _images(self, kind: str, tables: torch.Tensor, drawn: dict[str, dict[str, np.ndarray]]) -> torch.Tensor:
        """(n, 3, px, px) float32 in [0, 1]: the views of one kind of the patches in `tables`."""
        images = self.crops[kind](tables, drawn["crop"])
        for name, part in self.terms.items():
            images = part(images, drawn[name])
        return images


def _of_patches(drawn: dict[str, dict[str, np.ndarray]], chunk: slice) -> dict[str, dict[str, np.ndarray]]:
    """The same parameters for some patches only, as (n, ...) arrays."""
    return {
        term_: {name: rearrange(values[:, chunk], "v b ... -> (v b) ...") for name, values in parameters.items()}
        for term_, parameters in drawn.items()
    }

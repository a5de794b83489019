"""A miniature of MoNuSAC: its two folders, a folder for each slide, tiles of different sizes (.tif, .svs), and XML of outlines."""

from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np
from miniatures import tissue
from PIL import Image

PARTS = {"train": "MoNuSAC_images_and_annotations", "val": "MoNuSAC Testing Data and Annotations"}
NAMES = ("Epithelial", "Lymphocyte", "Neutrophil", "Macrophage")
Nucleus = tuple[str, list[tuple[float, float]]]


def monusac(root: Path, *, slides: dict[str, int] | None = None, width: int = 60, height: int = 40) -> Path:
    """Two tiles a slide, the second one larger; in the second part one nucleus of each tile is ambiguous."""
    for part, count in (slides or {"train": 4, "val": 3}).items():
        for k in range(count):
            for n in (1, 2):
                slide = f"TCGA-{'5P' if part == 'train' else '2Z'}-A9K{k}-01Z-00-DX1"
                size = (width + 20 * (n - 1), height + 10 * k)
                found = nuclei(size, seed=100 * k + n, names=(*NAMES, "Ambiguous") if part == "val" else NAMES)
                write(root / PARTS[part] / slide / f"{slide}_{n}", size, found, seed=10 * k + n)
    return root


def nuclei(size: tuple[int, int], *, seed: int, names) -> list[Nucleus]:
    """Stars of eight corners with broken coordinates, some over the border, some over one another; two of each name."""
    rng = np.random.default_rng(seed)
    found = []
    for name in names * 2:
        x, y = rng.uniform((0, 0), size)
        turns = np.arange(8) / 8 * 2 * np.pi
        radii = rng.uniform(3, 8, 8)
        found.append((name, [(x + r * np.cos(t), y + r * np.sin(t)) for r, t in zip(radii, turns, strict=True)]))
    return found


def write(stem: Path, size: tuple[int, int], found: list[Nucleus], *, seed: int) -> None:
    """`stem`.tif, .svs and .xml."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    image = tissue(size, hue=0, seed=seed).astype(int)
    for name, corners in found:
        x, y = np.mean(corners, axis=0).astype(int)
        image[max(y - 3, 0) : y + 4, max(x - 3, 0) : x + 4] -= 30 * (1 + (*NAMES, "Ambiguous").index(name))
    for suffix in (".tif", ".svs"):
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(f"{stem}{suffix}", format="TIFF")
    Path(f"{stem}.xml").write_text(xml(found))


def xml(found: list[Nucleus]) -> str:
    """One annotation a class, as ImageScope writes them."""
    annotations = []
    for k, name in enumerate(dict.fromkeys(name for name, _ in found)):
        regions = [corners for other, corners in found if other == name]
        inside = "".join(_region(n, corners) for n, corners in enumerate(regions, 1))
        annotations.append(
            f'<Annotation Id="{k + 1}" Name="" ReadOnly="0" Type="4" LineColor="65280" Visible="1">'
            f'<Attributes><Attribute Name={quoteattr(name)} Id="0" Value="" /></Attributes>'
            f'<Regions><RegionAttributeHeaders><AttributeHeader Id="9999" Name="Region" ColumnWidth="-1" />'
            f"</RegionAttributeHeaders>{inside}</Regions><Plots /></Annotation>"
        )
    return f'<?xml version="1.0"?>\n<Annotations MicronsPerPixel="0.252100">{"".join(annotations)}</Annotations>\n'


def _region(number: int, corners: list[tuple[float, float]]) -> str:
    vertices = "".join(f'<Vertex X="{x:.6f}" Y="{y:.6f}" Z="0" />' for x, y in corners)
    return f'<Region Id="{number}" Type="0" Zoom="1"><Attributes /><Vertices>{vertices}</Vertices></Region>'

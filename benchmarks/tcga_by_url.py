"""A day of training on TCGA's slides by URL, on paper: bytes, requests and what a cache keeps, from measured costs of a patch.

    python benchmarks/tcga_by_url.py > benchmarks/tcga_by_url.md

What was measured: benchmarks/slides_by_url.json (bytes and requests of a patch that is not here yet). What is assumed stands in the table
that it writes, and may be given otherwise: --patches-per-s (of all GPUs together), --slides, --tissue-mm2 (of a slide).
"""

import argparse
import json
import math
from pathlib import Path

MEASURED = Path(__file__).with_name("slides_by_url.json")
DAY_S = 86_400
PATCH_PX = 224
TABLE_BYTES = 16  # of a tile: where it is, and how long


def tiles_of_a_patch(tile_px: int) -> float:
    """The mean number of tiles under a patch at any place of a level."""
    return (1 + (PATCH_PX - 1) / tile_px) ** 2


def index_bytes(measured: dict, slide: dict, slide_mm2: float) -> tuple[float, float]:
    """What the index fetches of a slide of `slide_mm2`, and what of it stays in the cache whatever else is taken: the tables of its tiles.

    The measured slide's cost is a constant, the tables (by tiles of all levels) and its coarsest level (by area). Of a generated slide of
    100 mm2, with 0.21 bytes a pixel, 2.47 MB were fetched; this gives 2.42.
    """
    pixels = slide_mm2 * 1e6 / slide["mpp"] ** 2
    measured_pixels = slide["side_px"] ** 2

    def parts(pixels: float) -> tuple[float, float]:
        tables = TABLE_BYTES * sum(pixels / level**2 for level in slide["levels"]) / slide["tile_px"] ** 2
        return tables, pixels / slide["levels"][-1] ** 2 * slide["bytes_per_pixel"]

    constant = measured["bytes"] - sum(parts(measured_pixels))
    tables, coarsest = parts(pixels)
    return constant + tables + coarsest, tables


def rows(costs: dict, slide: dict, options: argparse.Namespace) -> list[tuple[str, ...]]:
    patches = options.patches_per_s * DAY_S
    tile_px, mpp = slide["tile_px"], slide["mpp"]
    tiles = options.slides * options.tissue_mm2 * 1e6 / (tile_px * mpp) ** 2
    tile_bytes = slide["bytes_per_pixel"] * tile_px**2
    found = []
    kept_tables = options.slides * index_bytes(costs["index, a slide"], slide, options.slide_mm2)[1]
    for name in ("0.25, a patch, cold", "0.25, region=four, a patch, cold", "0.5, a patch, cold"):
        cost = costs[name]  # of 0.5 too: a pyramid by fours has no level for it, so the finest is read
        # Tiles are drawn at random: of so many draws this share is of tiles that were not drawn before.
        draws = patches * cost["bytes"] / tile_bytes
        new = tiles * (1 - math.exp(-draws / tiles)) / draws
        kept = {gib: min(1.0, max(0.0, gib * 2**30 - kept_tables) / (tiles * tile_bytes)) for gib in (50, 2000)}
        found.append(
            (
                name.replace(", a patch, cold", ""),
                f"{patches * cost['bytes'] / 1e12:.3g} TB",
                f"{options.patches_per_s * cost['bytes'] * 8 / 1e9:.2g} Gbit/s",
                f"{options.patches_per_s * cost['requests']:,.0f}",
                f"{1 - new:.0%}",
                *(f"{min(1 - new, share):.1%}" for share in kept.values()),
            )
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patches-per-s", type=float, default=1000.0)
    parser.add_argument("--slides", type=int, default=11_765, help="diagnostic slides of TCGA")
    parser.add_argument("--tissue-mm2", type=float, default=200.0, help="of a slide, at full resolution")
    parser.add_argument("--slide-mm2", type=float, default=500.0, help="of a slide, with what is no tissue")
    options = parser.parse_args()
    measured = json.loads(MEASURED.read_text())
    costs, slide = measured["costs"], measured["slide"]
    index = costs["index, a slide"]
    each, tables = index_bytes(index, slide, options.slide_mm2)
    tissue_tb = options.slides * options.tissue_mm2 * 1e6 / slide["mpp"] ** 2 * slide["bytes_per_pixel"] / 1e12
    print("# A day of TCGA by URL, on paper")
    print(
        "\nWritten by `python benchmarks/tcga_by_url.py` from [slides_by_url.json](slides_by_url.json). "
        "Nothing of it was run on TCGA itself.\n"
    )
    day = options.patches_per_s * DAY_S / 1e6
    print(
        f"Assumed: {options.slides:,} slides at {slide['mpp']} um per pixel of {options.slide_mm2:g} mm2 "
        f"with {options.tissue_mm2:g} mm2 of tissue each, "
        f"{options.patches_per_s:,.0f} patches a second ({day:,.0f} M a day), patches of {PATCH_PX} px."
    )
    print(
        f"Measured: tiles of {slide['tile_px']} px, {slide['bytes_per_pixel']} bytes a pixel (JPEG, quality {slide['quality']}); "
        f"{tiles_of_a_patch(slide['tile_px']):.2f} tiles lie under a patch. Slides of TCGA may hold twice as many bytes a pixel.\n"
    )
    heads = (
        "um per pixel",
        "fetched",
        "rate",
        "requests/s",
        "drawn before",
        "in a cache of 50 GiB",
        "of 2,000 GiB",
    )
    print(f"| {' | '.join(heads)} |\n|---|{'---:|' * (len(heads) - 1)}")
    for row in rows(costs, slide, options):
        print(f"| {' | '.join(row)} |")
    print(
        f"\n- The index first: some {index['requests']:.0f} requests (more of larger slides) and {each / 1e6:.2g} MB a slide, "
        f"{options.slides * each / 1e9:,.3g} GB in all, once. {options.slides * tables / 1e9:,.2g} GB of it, the "
        "tables of tiles, stay in the cache."
    )
    print(
        f'- All the tissue at full resolution is {tissue_tb:,.3g} TB. "Drawn before" is the share of a day\'s tiles that a cache of '
        "that size would hold; smaller caches hold what fits, since tiles are drawn at random."
    )
    print(
        "- So a cache is for what is read again soon (the index, probes, a restart), and for studies on few slides or patches, which "
        "fit into it. A long training on all of TCGA wants a disk that holds the slides, or `region=four`."
    )


if __name__ == "__main__":
    main()

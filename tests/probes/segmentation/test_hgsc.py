"""Real tissue with nuclei of three types: masks as they are published, and every protocol, run (a smoke test)."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pathssl.models.encoder import create_encoder
from pathssl.probes.evaluate import Probes
from pathssl.probes.segmentation.folder import masks_task
from pathssl.probes.segmentation.protocol import conv_heads, linear_heads

FOLDER = Path(__file__).resolve().parents[3].parent / "shared" / "data" / "segmentation_hgsc"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"{FOLDER} is not here")
PARTS = {"train": np.s_[:, :750], "val": np.s_[:, 750:1100], "test": np.s_[:, 1100:]}
TRAINING = {"runs": 2, "batch_size": 16, "lr": 0.01, "lr_power": 0.9, "weight_decay": 0.01, "standardise": True}


@pytest.mark.slow
def test_every_protocol_runs_on_three_parts_of_one_image(tmp_path, settings):
    image = np.asarray(Image.open(FOLDER / "hgsc_nest.jpg"))
    with np.load(FOLDER / "hgsc_nest_type_mask.npz") as file:
        mask = file["nuc_raster"]
    table = "path,mask,split\n"
    for split, part in PARTS.items():
        Image.fromarray(image[part]).save(tmp_path / f"{split}.png")
        np.savez(tmp_path / f"{split}.npz", mask[part])
        table += f"{split}.png,{split}.npz,{split}\n"
    (tmp_path / "masks.csv").write_text(table)
    classes = ["background", "type 1", "type 2", "type 3"]
    task = masks_task(path=str(tmp_path), **settings | {"image_px": 128, "classes": classes})
    torch.manual_seed(0)
    args = {"img_size": 64, "patch_size": 16, "embed_dim": 64, "depth": 2, "num_heads": 2}
    protocols = {
        "seg_linear": linear_heads(steps=40, checks=2, **TRAINING),
        "seg_conv": conv_heads(hidden=8, steps=6, checks=1, **TRAINING),
    }
    norm = {"batch_size": 32, "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    probes = Probes({"hgsc": task}, protocols, held_out_NHWC=None, **norm)
    outcome = probes.run(create_encoder("vit_tiny_patch16_224", args), device="cpu", with_nulls=True)
    assert len(outcome.metrics) == 2 * 2 * 2 * 2 and all(0 <= value <= 1 for value in outcome.metrics.values())
    assert outcome.metrics["probe/hgsc/seg_linear/test/dice"] > 0.05
    assert outcome.tasks["hgsc"].predictions["seg_conv_confusion"].sum() == 2 * 1500 * 400

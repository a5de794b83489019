"""All of one encoder on one task of masks: one pass of the encoder, keys, what is stored, and the colour null beside it."""

import numpy as np
import pytest
import torch

from pathssl.metrics import dice
from pathssl.models.encoder import create_encoder
from pathssl.probes.evaluate import Probes
from pathssl.probes.segmentation.protocol import conv_heads, linear_heads

TRAINING = {"runs": 2, "steps": 4, "batch_size": 8, "lr": 0.05, "lr_power": 0.9, "weight_decay": 0.01, "checks": 2}
NORM = {"batch_size": 16, "mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}


def encoder(seed: int, depth: int = 1) -> torch.nn.Module:
    torch.manual_seed(seed)
    args = {"img_size": 16, "patch_size": 4, "embed_dim": 12, "depth": depth, "num_heads": 2}
    return create_encoder("vit_tiny_patch16_224", args)


@pytest.fixture
def probes(task):
    heads = {
        "seg_linear": linear_heads(standardise=True, **TRAINING),
        "seg_conv": conv_heads(hidden=3, standardise=False, **TRAINING),
    }
    return Probes({"shapes": task}, heads, held_out_NHWC=None, **NORM)


def test_keys_and_stored_matrices_which_give_the_results_again(probes, tmp_path):
    found = probes.run(encoder(0), device="cpu", with_nulls=False)
    names = {f"{p}/{s}/{m}" for p in ("seg_linear", "seg_conv") for s in ("val", "test") for m in ("dice", "miou")}
    assert set(found.metrics) == {f"probe/shapes/{name}" for name in names}
    np.savez(tmp_path / "a.npz", **found.tasks["shapes"].predictions)
    stored = np.load(tmp_path / "a.npz", allow_pickle=False)
    assert (
        str(stored["split"]) == "test" and stored["classes"].tolist() == ["0", "1", "2"] and stored["background"] == 0
    )
    assert stored["ids"].tolist() == ["08.png", "09.png", "10.png", "11.png"]
    assert stored["groups"].tolist() == ["case4", "case4", "case5", "case5"]
    for protocol in ("seg_linear", "seg_conv"):
        counts = stored[f"{protocol}_confusion"]
        again = np.mean([dice(counts[:, k], 0) for k in range(2)])
        assert again == found.metrics[f"probe/shapes/{protocol}/test/dice"] and counts.shape == (4, 2, 3, 3)
        assert set(stored[f"{protocol}_steps"].tolist()) <= {2, 4}


def test_the_encoder_sees_every_crop_once_whatever_is_made_of_it(probes, task):
    seen = []
    model = encoder(0)
    model.patch_embed.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    probes.run(model, device="cpu", with_nulls=True)
    assert sum(seen) == len(task.image_M)


def test_the_colour_null_does_not_depend_on_the_encoder(probes):
    one, other = (probes.run(encoder(seed), device="cpu", with_nulls=True).metrics for seed in (0, 1))
    null = "probe/shapes/seg_linear_colour_histogram/test/dice"
    assert one[null] == other[null] and len(one) == 24
    assert one["probe/shapes/seg_linear/test/dice"] != other["probe/shapes/seg_linear/test/dice"]


def test_the_block_that_is_asked_for_is_the_one_that_is_probed(task):
    def numbers(block: int | None) -> dict[str, float]:
        heads = {"seg_linear": linear_heads(standardise=True, **TRAINING)}
        probes = Probes({"shapes": task}, heads, held_out_NHWC=None, block=block, **NORM)
        return probes.run(encoder(0, depth=2), device="cpu", with_nulls=False).metrics

    assert numbers(None) == pytest.approx(numbers(1)) != pytest.approx(numbers(0))

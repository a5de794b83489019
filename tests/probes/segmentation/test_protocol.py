"""Heads learn masks from tokens that tell, not from others; what is reported is what the stored matrices give."""

import numpy as np
import pytest
import torch
from einops import rearrange, reduce

from pathssl.errors import UserError
from pathssl.metrics import dice, miou
from pathssl.probes.segmentation.protocol import SegmentationHeads, conv_heads, linear_heads

FAST = {"runs": 2, "steps": 60, "batch_size": 16, "lr": 0.05, "lr_power": 0.9, "weight_decay": 0.01, "checks": 4}
FAST |= {"standardise": True}


def shares(task, noise: float) -> np.ndarray:
    """(M, 8, 8, 3) tokens of 2 px that say, with noise, the share of each class in their pixels."""
    of_class = [(task.labels_MPP == k).astype(np.float32) for k in range(3)]
    maps = [reduce(one, "m (h y) (w x) -> m h w", "mean", y=2, x=2) for one in of_class]
    told = rearrange(np.stack(maps), "k m h w -> m h w k")
    return (told + noise * np.random.default_rng(0).normal(size=told.shape)).astype(np.float32)


def blind(task) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(len(task.image_M), 8, 8, 3)).astype(np.float32)


def small_conv(**training):
    return conv_heads(hidden=8, **training | {"runs": 1, "steps": 30, "lr": 0.02})


@pytest.mark.parametrize("make", [linear_heads, small_conv])
def test_a_head_learns_masks_from_tokens_that_tell_and_not_from_others(task, make):
    told = make(**FAST).run(task, shares(task, 0.1), device="cpu").results
    untold = make(**FAST).run(task, blind(task), device="cpu").results
    assert list(told) == ["val/dice", "val/miou", "test/dice", "test/miou"]
    assert told["test/dice"] > 0.85 and told["test/miou"] > 0.75
    assert untold["test/dice"] < 0.5


def test_the_results_are_those_of_the_matrices_which_count_every_pixel_once(task):
    result = linear_heads(**FAST).run(task, shares(task, 0.5), device="cpu")
    for split, images in (("val", 2), ("test", 4)):
        counts = result.confusion[split]
        assert counts.shape == (images, 2, 3, 3)
        here = task.splits_N == split
        assert np.array_equal(counts.sum(axis=3), np.repeat(task.pixels_NK[here][:, None], 2, axis=1))
        for name, metric in (("dice", dice), ("miou", miou)):
            assert result.results[f"{split}/{name}"] == np.mean([metric(counts[:, k], 0) for k in range(2)])
    assert not np.array_equal(counts[:, 0], counts[:, 1])


def test_a_head_among_others_is_the_head_alone_and_the_same_each_time(task):
    three, again = (linear_heads(**FAST | {"runs": 3}).run(task, shares(task, 0.5), device="cpu") for _ in range(2))
    one = linear_heads(**FAST | {"runs": 1}).run(task, shares(task, 0.5), device="cpu")
    assert three.results == again.results
    assert all(np.array_equal(three.confusion[name], again.confusion[name]) for name in ("val", "test"))
    share = np.abs(three.confusion["test"][:, 0] - one.confusion["test"][:, 0]).sum() / one.confusion["test"].sum()
    assert share < 0.002  # a pixel between two classes may fall to the other by the order of a sum


def test_the_state_that_is_best_on_validation_is_kept_and_scored(task, monkeypatch):
    offered = []

    def noted(confusion, background):
        offered.append(dice(confusion, background))
        return offered[-1]

    monkeypatch.setattr("pathssl.probes.segmentation.protocol.dice", noted)
    heads = linear_heads(**FAST | {"runs": 1, "lr": 20.0, "steps": 12, "checks": 12})  # so much that it jumps about
    result = heads.run(task, shares(task, 0.5), device="cpu")
    on_validation = offered[:12]
    assert result.results["val/dice"] == max(on_validation) > on_validation[-1]
    assert result.chosen["steps"].tolist() == [1 + int(np.argmax(on_validation))]
    shorter = linear_heads(**FAST | {"runs": 1, "lr": 20.0, "steps": 12, "checks": 12})
    monkeypatch.setattr(shorter, "_fit", lambda *args: _fit_until(shorter, result.chosen["steps"][0], *args))
    kept = shorter.run(task, shares(task, 0.5), device="cpu")
    assert np.array_equal(kept.confusion["test"], result.confusion["test"])


def _fit_until(heads: SegmentationHeads, step: int, module: torch.nn.Module, crops, task):
    """As `_fit`, leaving the state of `step`, whatever validation says."""
    from pathssl.probes.segmentation.decoders import dice_loss

    optimiser = torch.optim.AdamW(module.parameters(), weight_decay=heads.weight_decay)
    order = heads._order(task.crops("train"))
    for t in range(step):
        optimiser.param_groups[0]["lr"] = heads.lr * (1 - t / heads.steps) ** heads.lr_power
        tokens, labels = crops.take(order[:, t])
        optimiser.zero_grad()
        dice_loss(crops.upsampled(module(tokens)), labels).sum().backward()
        optimiser.step()
    return {"val": crops.confusion(module, "val")}, np.array([step])


def test_tokens_on_disk_give_the_same_numbers(build):
    kept, streamed = build(), build(cache_mib=0)
    maps = shares(kept, 0.5)
    from pathssl.probes.segmentation.crops import room

    on_disk = room(maps.shape, np.float32, 0)
    on_disk[:] = maps
    ours, theirs = (linear_heads(**FAST).run(*which, device="cpu") for which in ((kept, maps), (streamed, on_disk)))
    assert ours.results == theirs.results


def test_scoring_in_small_passes_changes_nothing(task, monkeypatch):
    whole = linear_heads(**FAST).run(task, shares(task, 0.5), device="cpu")
    monkeypatch.setattr("pathssl.probes.segmentation.protocol.VALUES_AT_ONCE", 4000)
    passes = linear_heads(**FAST).run(task, shares(task, 0.5), device="cpu")
    assert np.abs(passes.confusion["test"] - whole.confusion["test"]).sum() <= 4


def test_every_train_crop_comes_once_before_any_comes_again(task):
    order = linear_heads(**FAST)._order(task.crops("train"))
    assert order.shape == (2, 60, 16)
    train = task.crops("train")
    for of_head in order.reshape(2, -1):
        assert np.array_equal(np.sort(of_head[: len(train)]), train)
    assert not np.array_equal(order[0], order[1])


@pytest.mark.parametrize("changed", [{"runs": 0}, {"steps": 3}, {"lr": 0.0}, {"lr_power": -1}])
def test_settings_without_a_meaning_are_refused(changed):
    with pytest.raises(UserError, match="checks="):
        linear_heads(**FAST | changed)
    with pytest.raises(UserError, match="hidden=0"):
        conv_heads(hidden=0, **FAST)

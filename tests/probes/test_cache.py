"""Features are computed once for what they follow from, and again where anything of it changed."""

import logging
import os
import time

import numpy as np
import pytest
import torch
from torch import nn

from pathssl.models.encoder import create_encoder
from pathssl.probes.cache import FeatureCache, key_of, weights_hash
from pathssl.probes.evaluate import Probes
from pathssl.probes.folder import folder_task
from pathssl.probes.knn import KNN

NORM = {"batch_size": 16, "mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}
ARGS = {"img_size": 16, "patch_size": 8, "embed_dim": 12, "depth": 2, "num_heads": 2}


def encoder(seed=0, **changes):
    torch.manual_seed(seed)
    return create_encoder("vit_tiny_patch16_224", ARGS | changes)


class Counted:
    """How often an encoder ran, and the numbers."""

    def __init__(self, task, folder, **settings):
        self.cache = FeatureCache(folder, mib=10)
        self.probes = Probes(
            {"colours": task},
            {"knn": KNN(ks=[1], temperature=0.07)},
            held_out_NHWC=None,
            cache=self.cache,
            **NORM | settings,
        )

    def __call__(self, model):
        passes = []
        handle = model.register_forward_hook(lambda *_: passes.append(1))
        found = self.probes.run(model, device="cpu", with_nulls=False).metrics
        handle.remove()
        return len(passes), found


def test_the_second_time_nothing_runs_and_the_numbers_are_the_same(task, tmp_path):
    counted = Counted(task, tmp_path / "cache")
    first, second = counted(encoder()), counted(encoder())
    assert first[0] > 0 and second == (0, first[1])


@pytest.mark.parametrize("settings", [{"pool": "mean"}, {"block": 0}, {"mean": (0.4, 0.5, 0.5)}, {"batch_size": 8}])
def test_another_way_to_embed_is_another_key(task, tmp_path, settings):
    Counted(task, tmp_path / "cache")(encoder())
    ran, _ = Counted(task, tmp_path / "cache", **settings)(encoder())
    assert ran > 0 or "pool" in settings or "block" in settings  # those do not call the encoder itself
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 2


def test_other_weights_another_architecture_and_other_files_are_other_keys(task, folder, settings, tmp_path):
    counted = Counted(task, tmp_path / "cache")
    counted(encoder())
    one = encoder()
    with torch.no_grad():
        one.blocks[1].mlp.fc2.bias[3] += 1e-3
    assert counted(one)[0] > 0 and counted(encoder(num_heads=3))[0] > 0
    image = sorted(folder.glob("*.png"))[0]
    os.utime(image, ns=(1, 1))
    again = folder_task(path=str(folder), **settings)
    assert Counted(again, tmp_path / "cache")(encoder())[0] > 0


def test_a_damaged_file_is_computed_again_and_told(task, tmp_path, caplog):
    counted = Counted(task, tmp_path / "cache")
    first = counted(encoder())
    (file,) = (tmp_path / "cache").glob("*.npy")
    file.write_bytes(file.read_bytes()[:100])
    with caplog.at_level(logging.WARNING):
        assert counted(encoder()) == first
    assert "cannot be read" in caplog.text
    assert counted(encoder())[0] == 0


def test_what_was_used_longest_ago_goes_first(tmp_path):
    cache = FeatureCache(tmp_path, mib=3 * 2**10 * 8 / 2**20 * 1.1)  # three arrays of 8 KiB
    for k in range(3):
        cache.get(f"a{k}", lambda k=k: np.full(1024, float(k)))
        os.utime(tmp_path / f"a{k}.npy", (k, k))
    cache.get("a0", lambda: pytest.fail("it is there"))
    cache.get("a3", lambda: np.zeros(1024))
    assert sorted(path.stem for path in tmp_path.glob("*.npy")) == ["a0", "a2", "a3"]
    large = cache.get("large", lambda: np.zeros(10**6))
    assert len(large) == 10**6 and not (tmp_path / "large.npy").exists()


def test_what_a_killed_writer_left_goes_too(tmp_path):
    cache = FeatureCache(tmp_path, mib=1)
    for name, age_s in ((".old.npy.7.tmp", 7200), (".new.npy.8.tmp", 0)):
        (tmp_path / name).write_bytes(b"half")
        os.utime(tmp_path / name, (time.time() - age_s,) * 2)
    cache.get("key", lambda: np.zeros(4, np.float32))
    assert sorted(path.name for path in tmp_path.iterdir()) == [".new.npy.8.tmp", "key.npy"]


def test_hashes_follow_from_content_alone():
    assert weights_hash(encoder(1)) == weights_hash(encoder(1)) != weights_hash(encoder(2))
    half = nn.Linear(2, 2).to(torch.bfloat16)
    assert weights_hash(half) == weights_hash(half)
    assert key_of("a", 1) == key_of("a", 1) != key_of("a", 2)

"""bench probe: passes beside probes, and intervals of the protocols, as it is typed."""

import json

import numpy as np
import pytest
from programs import pathssl

from pathssl.bench import probe
from pathssl.make import make
from pathssl.probes.feature_set import FeatureSet, Split


@pytest.mark.slow
def test_probes_are_measured_beside_their_forward_passes(small, tmp_path):
    own = [o for o in small if not o.startswith("output_dir=")]
    done = pathssl(
        "bench", "probe", *own, "model=vit_nano", "scale=tiny", "--rounds", "1", "--steps", "20", "--json", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["ratios"]["probe/forward"] > 0 and "eva" in answer["missing"]
    assert [row["protocol"] for row in answer["protocols"]] == ["linear", "eva", "eva_2024"]
    assert all(row["low"] <= row["high"] for row in answer["protocols"])


@pytest.mark.parametrize(
    ("protocol", "classes", "watched"),
    [
        ("eva", 2, "BinaryBalancedAccuracy"),
        ("eva_2024", 2, "BinaryAccuracy"),
        ("eva", 3, "MulticlassAccuracy"),
        ("eva_2024", 3, "MulticlassAccuracy"),
    ],
)
def test_eva_is_told_to_choose_by_what_ours_chooses_by(protocol, classes, watched, tmp_path):
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "[$(cat "$4")]"\n')  # its answer is the settings that it was given
    python.chmod(0o755)
    labels_N, ids_N = np.arange(12) % classes, np.arange(12).astype(str)
    split = Split(np.zeros((12, 3), np.float32), labels_N, ids_N, ids_N)
    features = FeatureSet(tuple("abc"[:classes]), split, split, None)
    (told,) = probe._eva_runs(python, features, make(probe._block(protocol, "mhist") | {"device": "cpu"}))
    assert told["monitor"] == watched


def test_mistakes_are_answered_in_a_sentence(tmp_path):
    done = pathssl("bench", "probe", "task=[]", cwd=tmp_path)
    assert done.returncode == 2 and "What is probed?" in done.stderr
    done = pathssl("bench", "probe", "task=[synthetic]", "--eva", "nowhere", cwd=tmp_path)
    assert done.returncode == 2 and "--eva nowhere" in done.stderr

"""bench probe: passes beside probes, and intervals of the protocols, as it is typed."""

import json

import pytest
from programs import pathssl


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


def test_mistakes_are_answered_in_a_sentence(tmp_path):
    done = pathssl("bench", "probe", "task=[]", cwd=tmp_path)
    assert done.returncode == 2 and "What is probed?" in done.stderr
    done = pathssl("bench", "probe", "task=[synthetic]", "--eva", "nowhere", cwd=tmp_path)
    assert done.returncode == 2 and "--eva nowhere" in done.stderr

"""Every command takes slides by URL, and a run on them is the run on the folder."""

import json
import shutil

import pytest
from programs import pathssl, train
from safetensors.torch import load_file
from servers import nginx

from pathssl.replay import find_step

pytestmark = pytest.mark.slow


@pytest.fixture
def overrides(small):
    """As `small`, on a folder of slides that is still to be named, without tasks."""
    kept = [o for o in small if not o.startswith(("data.cohort", "task.", "cache_dir", "output_dir", "study"))]
    data = ["data=folder", "scale=tiny", "task=[]", "data.foreground.cell_um=32", "data.held_out.mpp=[1.0]"]
    return [*data, *kept, "train.device=cpu", "slide_cache.gib=0.5"]


def test_commands_and_runs_by_url(cohort, overrides, tmp_path):
    served = tmp_path / "served"
    shutil.copytree(cohort / "slides", served / "slides")
    names = sorted(file.name for file in served.rglob("*.tif"))
    (served / "manifest.csv").write_text("slide\n" + "".join(f"{name}\n" for name in names))
    with nginx(served, tmp_path / "nginx") as server:  # which lists nothing
        by_url = [*overrides, f"data.path={server.url}/slides"]
        refused = pathssl("index", *by_url, cwd=tmp_path)
        assert refused.returncode == 2 and "name the slides in a manifest" in refused.stderr
        assert "Traceback" not in refused.stderr
        by_url.append(f"data.manifest={server.url}/manifest.csv")
        indexed = pathssl("index", "--json", *by_url, cwd=tmp_path)
        assert indexed.returncode == 0, indexed.stderr
        assert json.loads(indexed.stdout)["slides"] == len(names)
        drawn = pathssl("gallery", *by_url, "--to", "gallery", cwd=tmp_path)
        assert drawn.returncode == 0, drawn.stderr
        for name, more in (("url", by_url), ("url2", [*by_url, "loader.workers=2"])):
            ran = train(*more, f"study={name}", "cache_dir=fresh", cwd=tmp_path)
            assert ran.returncode == 0, ran.stderr
        run = next((tmp_path / "outputs" / "url").glob("*/seed0"))
        replayed = pathssl("replay", run, "--step", "3", "--to", "replayed", cwd=tmp_path)
        assert replayed.returncode == 0, replayed.stderr
    local = train(*overrides, f"data.path={served}/slides", "study=disk", cwd=tmp_path)
    assert local.returncode == 0, local.stderr
    runs = [next((tmp_path / "outputs" / name).glob("*/seed0")) for name in ("disk", "url", "url2")]
    weights = [load_file(sorted(run.glob("checkpoints/*/teacher.safetensors"))[-1]) for run in runs]
    for other in weights[1:]:
        assert all((other[key] == tensor).all() for key, tensor in weights[0].items())
    # Where the slides came from is no part of what a run is: it is replayed from the folder too.
    found = find_step(runs[1], 3, [f"data.path={served}/slides", f"data.manifest={served}/manifest.csv"])
    assert (found.pixels() == find_step(runs[0], 3).pixels()).all()

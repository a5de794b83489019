"""A study on 1,000 slides of which 1 % are bad goes on, and says which they are."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pathssl.records import find_runs, read_status
from pathssl.slides.synthetic import write_cohort

ROOT = Path(__file__).resolve().parents[1]
SLIDES, BAD_BEFORE, BAD_LATER = 1000, 5, 5


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """1,000 slides: copies of four, of which five were cut short when they were copied."""
    root = tmp_path_factory.mktemp("many")
    settings = {
        "seed": 0,
        "cases": 4,
        "sites": 2,
        "slide_px": 512,
        "mpp": 0.5,
        "labelled_cases": 6,
        "patches_per_class": 1,
    }
    write_cohort(root / "cohort", **settings, patch_px=64, patch_mpp=0.5, nuclei_fields=1, workers=1, progress=False)
    contents = [path.read_bytes() for path in sorted((root / "cohort" / "slides").glob("*.tif"))]
    slides = root / "slides"
    slides.mkdir()
    for k in range(SLIDES):
        content = contents[k % 4]
        (slides / f"slide{k:03d}.tif").write_bytes(content[: len(content) // 2] if k < BAD_BEFORE else content)
    return slides


def _command(folder, *more):
    overrides = [
        "scale=tiny",
        "data=folder",
        f"data.path={folder}",
        "task=[]",
        "train.device=cpu",
        "data.foreground.cell_um=32",
    ]
    small = ["train.patches=4000", "batch.size=200", "train.checkpoint_every=0.5", "resolution.patch_px=40"]
    small += [
        "resolution.global_px=32",
        "resolution.local_px=16",
        "augmentation.local_crops=1",
        "unsupervised.patches=64",
    ]
    small += ["model.args.embed_dim=32", "model.args.depth=1", "model.args.num_heads=2", "objective.out_dim=64"]
    return [*overrides, *small, "data.held_out.mpp=[1.0]", "loader.workers=2", "study=many", *more]


@pytest.mark.slow
def test_one_percent_of_bad_slides_stops_nothing_and_each_is_named(folder, tmp_path):
    def call(*arguments):
        done = subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=400, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    said = call("-m", "pathssl", "index", *_command(folder))
    assert f"{BAD_BEFORE} quarantined" in said
    # After the index was made, the content of others is lost, while size and date stay: what a failing disk leaves.
    spoilt = [folder / f"slide{k:03d}.tif" for k in range(BAD_BEFORE, BAD_BEFORE + BAD_LATER)]
    for path in spoilt:
        facts, size = path.stat(), path.stat().st_size
        content = path.read_bytes()
        path.write_bytes(content[:1000] + bytes(size - 3000) + content[-2000:])
        os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    call(str(ROOT / "train.py"), *_command(folder))
    (run,) = find_runs(tmp_path / "outputs" / "many")
    assert read_status(run)["state"] == "finished"
    quarantined = {path for path, _ in json.loads((run / "data.json").read_text())["quarantined"]}
    assert quarantined == {f"slide{k:03d}.tif" for k in range(BAD_BEFORE)}
    replaced = [json.loads(line) for line in (run / "replaced.jsonl").read_text().splitlines()]
    names = {fault["slide"] for fault in replaced}
    assert names and names <= {path.name for path in spoilt}
    log = (run / "log.txt").read_text()
    call("-m", "pathssl", "report", "outputs/many")
    page = (tmp_path / "outputs" / "many" / "report" / "index.html").read_text()
    assert all(name in log for name in names)
    assert all(name in page for name in names | quarantined)

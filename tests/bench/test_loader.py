import numpy as np
import pytest

from pathssl.bench import benchmark_slide, loader, peers
from pathssl.bench.rounds import cores

FOREGROUND = {"method": "otsu", "thumbnail_mpp": 8.0, "cell_um": 32.0, "min_tissue": 0.4}
RATIOS = {
    "pathssl/cucim@0.25",
    "pathssl/wsistream@0.25",
    "pathssl/reopened@0.25",
    "pathssl+region4/cucim@0.25",
    "pathssl@0.5/footprint",
    "pathssl@0.4/footprint",
    "2workers/1worker@0.25",
}


@pytest.fixture
def bench(small_slide, monkeypatch):
    """Call it as bench(patches); the small slide, one round."""
    path, made_of, cache = small_slide
    monkeypatch.setattr(loader, "benchmark_slide", lambda *_: (path, made_of))
    return lambda patches: loader.bench_loader(
        cache=cache, tissue=None, rounds=1, patches=patches, reader="auto", foreground=FOREGROUND, prefetch=2
    )


@pytest.mark.slow
def test_the_answer_has_the_promised_ratios_and_a_reason_for_each_that_is_missing(bench):
    answer = bench(256)
    of = {
        "pathssl/cucim@0.25": "cucim",
        "pathssl+region4/cucim@0.25": "cucim",
        "pathssl/wsistream@0.25": "wsistream",
        "2workers/1worker@0.25": "pathssl, 2 workers",
    }
    assert set(answer["ratios"]) == {key for key in RATIOS if of.get(key) not in answer["missing"]}
    assert all(value > 0 for value in answer["ratios"].values())
    speeds = {row["name"]: row for row in answer["rows"]}
    assert {"pathssl", "pathssl+region4", "openslide", "reopened", "pathssl / decoder's limit"} <= set(speeds)
    assert all({"name", "setting", "value", "unit", "min", "max"} == set(row) for row in answer["rows"])
    assert speeds["pathssl / decoder's limit"]["value"] > 0 and answer["slide"]["source"] == "synthetic cohort"
    assert "workers" in answer["text"]


def test_a_peer_that_fails_is_named_with_its_reason_and_the_others_are_measured(bench, monkeypatch):
    def broken(*_):
        raise RuntimeError("it does not like this slide")

    monkeypatch.setattr(peers, "openslide_", broken)
    monkeypatch.setattr(loader, "installed", lambda module: module != "wsistream")
    monkeypatch.setattr(loader, "cores", lambda count: cores(1) if count == 1 else None)
    monkeypatch.setattr(loader._Bench, "_speed", lambda *_: 1.0)
    answer = bench(256)
    assert answer["missing"]["openslide"] == "RuntimeError: it does not like this slide"
    assert "pip install wsistream" in answer["missing"]["wsistream"] and "pathssl, 2 workers" in answer["missing"]
    assert not {"pathssl/wsistream@0.25", "2workers/1worker@0.25"} & set(answer["ratios"])
    assert "pathssl/reopened@0.25" in answer["ratios"]


def test_tiles_a_patch_are_counted_from_where_the_patches_lie(small_slide):
    from pathssl.slides.index import build_index

    path, _, cache = small_slide
    index = build_index(
        path, cache=cache / "index", manifest=None, reader="auto", workers=0, progress=False, **FOREGROUND
    )
    measured = loader._Bench(index, path, benchmark_slide.SETTINGS, prefetch=2, batches=16)
    draws = measured.draws(loader.SINGLE, 0, 16)
    by_hand = [
        len({(x // 256, y // 256) for x in (x0, x0 + 223) for y in (y0, y0 + 223)})
        for x0, y0 in zip(draws.x0.tolist(), draws.y0.tolist(), strict=True)
    ]
    assert measured.tiles_a_patch(loader.SINGLE) == pytest.approx(np.mean(by_hand)) and np.mean(by_hand) > 2
    assert 0.5 < measured.tiles_a_patch(loader.FOUR) <= 1.05  # regions of at most 2 x 2 tiles give four patches each

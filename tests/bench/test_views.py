import pytest
import torch

from pathssl.bench import rounds, views
from pathssl.bench.torchvision_views import batch_of_views, torchvision_views
from pathssl.errors import UserError

SETTINGS = {
    "global_px": 32,
    "local_px": 16,
    "local_crops": 2,
    "global_scale": [0.4, 1.0],
    "local_scale": [0.05, 0.4],
    "ratio": [0.75, 4 / 3],
    "horizontal_flip": 0.5,
    "vertical_flip": 0.0,
    "turn": False,
    "hed": None,
    "jitter": {"p": 0.8, "brightness": 0.4, "contrast": 0.4, "saturation": 0.2, "hue": 0.1},
    "grey": {"p": 0.2},
    "blur": {"global_1_p": 1.0, "global_2_p": 0.1, "local_p": 0.5, "sigma": [0.1, 2.0]},
    "solarise": {"global_2_p": 0.2, "threshold": 128},
    "mean": [0.5] * 3,
    "std": [0.5] * 3,
}


def test_torchvisions_views_are_as_many_and_as_large_as_ours_and_normalised():
    transforms = torchvision_views(SETTINGS)
    made = batch_of_views(transforms, list(torch.randint(0, 256, (3, 3, 40, 40), dtype=torch.uint8)))
    assert [tuple(view.shape) for view in made] == [(3, 3, 32, 32)] * 2 + [(3, 3, 16, 16)] * 2
    assert all(view.dtype == torch.float32 and -1 <= view.min() < 0 < view.max() <= 1 for view in made)


def test_terms_that_are_off_are_off_for_torchvision_too():
    off = dict.fromkeys(("jitter", "grey", "blur", "solarise"))
    whole = {"global_scale": [1.0, 1.0], "ratio": [1.0, 1.0], "horizontal_flip": 0.0, "local_crops": 0}
    image = torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8)
    for view in torchvision_views(SETTINGS | off | whole):
        torch.testing.assert_close(view(image), image / 255 * 2 - 1, rtol=0, atol=1e-6)


@pytest.mark.parametrize("change", [{"turn": True}, {"hed": {"p": 1.0, "sigma": 0.05}}])
def test_what_torchvision_does_not_have_is_said(change):
    with pytest.raises(UserError, match="HED"):
        torchvision_views(SETTINGS | change)


@pytest.mark.parametrize("turn", [False, True])
def test_the_answer_compares_ours_with_torchvisions_faster_way_or_says_why_not(turn, monkeypatch):
    monkeypatch.setattr(views, "CPU_BATCH", 8)
    before = torch.get_num_threads()
    answer = views.bench_views(settings=SETTINGS | {"turn": turn}, patch_px=40, rounds=2, patches=8, device="cpu")
    speeds = {row["name"]: row["value"] for row in answer["rows"]}
    assert answer["what"] == "augment" and speeds["views: cpu"] > 0 and "views: cuda" in answer["missing"]
    assert torch.get_num_threads() == before
    if turn:
        assert answer["ratios"] == {} and "HED" in answer["missing"]["torchvision"]
    else:
        assert list(answer["ratios"]) == ["views/torchvision"] and "torchvision" not in answer["missing"]
        assert speeds["torchvision"] >= max(speeds["torchvision: tensor"], speeds["torchvision: pil"]) * 0.99
    assert "not measured: views: cuda" in answer["text"]


def test_only_one_core_is_measured(monkeypatch):
    seen = []
    monkeypatch.setattr(
        views, "_cpu_speed", lambda *_: seen.append((rounds.os.sched_getaffinity(0), torch.get_num_threads())) or 1.0
    )
    views.bench_views(settings=SETTINGS, patch_px=40, rounds=1, patches=8, device="cpu")
    assert all(threads == 1 and (not rounds.can_pin() or len(cpus) == 1) for cpus, threads in seen) and seen

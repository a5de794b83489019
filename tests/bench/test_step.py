import json
import math

import pytest
import torch

from pathssl import flops
from pathssl.bench import step, step_contenders
from pathssl.bench.step_contenders import Steps
from pathssl.cli import compose
from pathssl.errors import UserError
from pathssl.run import derived

OBJECTIVES = {
    "dino": [],
    "dino, lengths": ["objective.norm_last_layer=false", "objective.centring=sinkhorn"],
    "dinov2": ["objective=dinov2", "objective.spread.group=4"],
    "dinov2, kde": ["objective=midnight", "objective.spread.group=4", "objective.patch_head.out_dim=32"],
}


@pytest.fixture
def config(small):
    def composed(*overrides) -> dict:
        config = compose([*small, "scale=tiny", *overrides])
        config["derived"] = derived(config)
        return config

    return composed


@pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES)
def test_the_bare_model_learns_what_our_step_learns(objective, config, monkeypatch):
    monkeypatch.setattr(Steps, "_peak_gib", lambda *_: 0.0)
    monkeypatch.setattr(step_contenders, "counted", lambda _: 0)
    same = [
        "optim.clip_grad=null",
        "+optim.algorithm.eps=1e-6",
        "schedule.warmup=0",
    ]  # eps: keys' biases have no gradient but rounding
    bench = Steps(config(*objective, *same), torch.device("cpu"), 1)
    for _ in range(3):
        with bench._given():
            ours = bench.ours.take(2, 0, bench.patches, bench.seeds)["loss"]
        torch.testing.assert_close(bench.bare.step(), ours, rtol=1e-5, atol=1e-5)
        for name, other in bench.others.items():
            other.clip_grad = float("inf")
            torch.testing.assert_close(other.step(), ours, rtol=1e-5, atol=1e-5, msg=name)
    assert ("packed" in bench.others) == ("objective=dinov2" not in objective and "objective=midnight" not in objective)
    for name in ("student", "teacher"):
        mine = getattr(bench.ours.objective, name).state_dict()
        for key, tensor in getattr(bench.bare, name).state_dict().items():
            torch.testing.assert_close(tensor, mine[key], rtol=1e-3, atol=1e-5, msg=key)


def test_the_answer_has_speeds_ratios_split_and_memory(config, caplog):
    threads = torch.get_num_threads()
    before = config()
    answer = step.bench_step(config(), rounds=2, patches=16)
    assert torch.get_num_threads() == threads and not caplog.records
    assert answer == json.loads(json.dumps(answer, allow_nan=False))
    assert {row["name"]: row["unit"] for row in answer["rows"]} == dict.fromkeys(
        ["bare", "published", "packed", "step", "loop", "step with views"], "patches/s"
    )
    ratios = ["step/bare", "loop/bare", "step with views/bare", "published/bare", "packed/bare", "step/published"]
    assert list(answer["ratios"]) == ratios
    assert all(0.1 < ratio < 10 for ratio in answer["ratios"].values())
    assert list(answer["split"]) == ["views", "teacher", "student", "update"]
    assert math.isclose(sum(answer["split"].values()), 1, abs_tol=1e-3) and min(answer["split"].values()) > 0
    assert list(answer["peak_memory_gib"]) == ["step with views"] and answer["peak_memory_gib"]["step with views"] > 0.1
    assert answer["mfu"] == {} and {"MFU", "lightly-train"} == set(answer["missing"])
    assert answer["setting"]["batch"] == before["batch"]["size"] and answer["setting"]["steps_a_round"] == 2
    assert "a ratio of 0.91 or more" in answer["text"]


def test_the_loop_is_the_trainers_whole_loop(config, monkeypatch):
    bench = Steps(config("train.log_every=1"), torch.device("cpu"), 3)
    rows, fit = [], step_contenders.Trainer.fit

    def kept(self):
        log = self.journal.tracker.log
        self.journal.tracker.log = lambda row: rows.append(row) or log(row)
        fit(self)

    monkeypatch.setattr(step_contenders.Trainer, "fit", kept)
    assert bench._loop(0) > 0
    assert [row["step"] for row in rows] == [0, 3, 6] and rows[1]["train/loss"] > 0
    assert bench.ours.views is bench.views


def test_flops_are_those_of_the_products():
    weight, rows = torch.zeros(5, 3, requires_grad=True), torch.zeros(7, 5)
    assert flops.counted(lambda: rows @ weight) == 2 * 7 * 5 * 3
    assert flops.counted(lambda: (rows @ weight).sum().backward()) == 2 * 2 * 7 * 5 * 3


@pytest.mark.parametrize(
    ("name", "tflops"),
    [("NVIDIA H100 80GB HBM3", 989.5), ("NVIDIA H200", 989.5), ("NVIDIA H100 PCIe", 756.5), ("NVIDIA T4", None)],
)
def test_peaks_are_found_by_the_devices_name(name, tflops):
    assert flops.peak(name) == (None if tflops is None else pytest.approx(tflops * 1e12))


def test_several_passes_are_refused(config):
    with pytest.raises(UserError, match=r"parallel\.accumulate"):
        step.bench_step(config("parallel.accumulate=2"), rounds=1, patches=8)

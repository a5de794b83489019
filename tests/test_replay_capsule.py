"""What a capsule tells of the step that failed, after runs of the real train.py that did."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from programs import train

from pathssl import replay_capsule
from pathssl.cli import compose, main
from pathssl.replay import find_step
from pathssl.replay_capsule import compute_again, read_capsule
from pathssl.run import Failed, run
from pathssl.training import step
from pathssl.training.step import Step

SPOILT = "student.encoder.blocks.0.attn.qkv.weight"


def answer(capsys, *arguments) -> dict:
    assert main(["replay", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out, parse_constant=pytest.fail)


@pytest.mark.slow
def test_weights_that_a_step_broke_and_weights_that_came_broken_are_told(small, tmp_path, capsys):
    wild = [*small, "optim.base_lr=1e30", "schedule.warmup=0.0"]
    failed = train(*wild, cwd=tmp_path)
    (folder,) = (tmp_path / "outputs/small").glob("*/seed0")
    capsule = folder / "capsules/step_00000002"
    assert failed.returncode == 1 and f"python -m pathssl replay {capsule}" in failed.stderr, failed.stderr

    told = answer(capsys, capsule, "--to", tmp_path / "pictures")
    assert told["step"] == 2 and told["trained"] and [row["patch"] for row in told["patches"]] == list(range(8, 16))
    assert (tmp_path / "pictures/index.html").is_file()
    again = told["again"]
    (row,) = again["micro_batches"]
    assert row["patches"] == [8, 15] and not row["finite"]
    assert row["terms"] == row["in_the_run"] and row["terms"]["loss"] == "nan"
    assert again["weights"] == [] and [patch["patch"] for patch in again["patches"]] == list(range(8, 16))
    assert all("student" in patch["in"] for patch in again["patches"])
    assert again["verdict"].startswith("The weights were already broken") and "The largest is " in again["verdict"]
    assert again["verdict"] in told["text"]

    state = folder / "checkpoints/step_00000000/state.pt"
    content = torch.load(state, weights_only=True)
    content["objective"][SPOILT][0, 0] = float("nan")
    torch.save(content, state)
    failed = train(*wild, cwd=tmp_path)
    assert failed.returncode == 1 and "step_00000001" in failed.stderr
    again = answer(capsys, folder / "capsules/step_00000001")["again"]
    assert again["weights"] == [SPOILT] and f"({SPOILT})" in again["verdict"]
    assert {name for patch in again["patches"] for name in patch["in"]} == {"student"}


@pytest.fixture
def capsule(small, monkeypatch, request):
    """The capsule of a run whose loss was spoilt in step 3, though nothing is wrong with it: as if another machine had computed it."""
    losses, calls = Step.losses, []

    def spoiling(self, *given):
        terms = losses(self, *given)
        calls.append(None)
        return terms | {"loss": terms["loss"] * float("nan")} if len(calls) == 2 * 2 + 2 else terms

    with monkeypatch.context() as once:
        once.setattr(Step, "losses", spoiling)
        with pytest.raises(Failed, match=r"replay .*step_00000003"):
            run(compose([*small, "parallel.accumulate=2", "model.drop_path=0.5", *request.param]), "default")
    (folder,) = Path(compose(small)["output_dir"]).glob("small/default/seed0/capsules/*")
    return read_capsule(folder)


@pytest.mark.parametrize("capsule", [[], ["train.precision=bf16"]], indirect=True, ids=["fp32", "bf16"])
def test_a_step_is_computed_as_it_was(capsule):
    again = compute_again(capsule, find_step(capsule.run, capsule.step))
    first, second = again.micro_batches
    assert first["finite"] and second["finite"] and (again.weights, again.patches) == ([], [])
    assert "finite here: another machine or precision" in again.verdict
    assert first["in_the_run"] is None and second["in_the_run"]["loss"] == "nan"
    assert second["patches"] == [20, 23]
    kept = {name: x for name, x in second["in_the_run"].items() if name != "loss"}
    assert kept and {name: second["terms"][name] for name in kept} == kept


@pytest.mark.parametrize("capsule", [[]], indirect=True)
def test_the_one_patch_that_breaks_a_step_is_named(capsule, monkeypatch):
    found, make = find_step(capsule.run, capsule.step), replay_capsule.make
    brightest = 6

    def with_a_bad_view(block, *given, **more):
        made = make(block, *given, **more)
        if "local_crops" not in block:
            return made

        def views(patches, seeds):
            crops = made(patches, seeds)
            crops["local"][1, brightest] = float("inf")
            return crops

        return views

    monkeypatch.setattr(replay_capsule, "make", with_a_bad_view)
    again = compute_again(capsule, found)
    assert [row["finite"] for row in again.micro_batches] == [True, False]
    assert [(row["patch"], row["in"]) for row in again.patches] == [(22, ["views", "student"])]
    assert again.verdict == "Patch 22 alone breaks it, of 8: the views are not finite before any network sees them."


@pytest.mark.parametrize(
    "capsule", [["objective=dinov2", "objective.spread.group=4", "objective.mask_probability=1.0"]], indirect=True
)
def test_masked_tokens_are_laid_to_their_patch(capsule, monkeypatch):
    targets, patch = Step.targets, 6

    def spoilt(self, *given):
        views, made = targets(self, *given)
        student, of_patch = self.objective.student, made.masks_BGHW.sum(axis=(1, 2, 3))
        student.patch_head = _Spoilt(student.head, slice(of_patch[4:patch].sum(), of_patch[4 : patch + 1].sum()))
        return views, made

    monkeypatch.setattr(Step, "targets", spoilt)
    again = compute_again(capsule, find_step(capsule.run, capsule.step))
    assert [(row["patch"], row["in"]) for row in again.patches] == [(16 + patch, ["student"])]
    assert again.verdict == f"Patch {16 + patch} alone breaks it, of 8."


class _Spoilt(torch.nn.Module):
    """A head that gives NaN for these rows of the second micro-batch."""

    def __init__(self, head, rows):
        super().__init__()
        self.head, self.rows, self.calls = head, rows, 0

    def forward(self, features):
        self.calls += 1
        scores = self.head(features)
        if self.calls == 2:
            scores[self.rows] = float("nan")
        return scores


@pytest.mark.parametrize("capsule", [[]], indirect=True)
def test_what_cannot_be_replayed_is_said(capsule, capsys, caplog):
    other = [process | {"views_seeds": [1, *process["views_seeds"][1:]]} for process in capsule.processes]
    compute_again(replace(capsule, processes=other), find_step(capsule.run, capsule.step))
    assert "1 of this step's patches, such as 16, are not those that the run drew" in caplog.text
    for arguments, says in (
        ([capsule.folder, "--step", "4"], "is of step 3; leave --step out"),
        ([capsule.run], "Give --step N"),
    ):
        assert main(["replay", *map(str, arguments)]) == 2
        assert says in capsys.readouterr().err
    shutil.copy(capsule.folder / "capsule.json", capsule.folder / "state.pt")
    assert main(["replay", str(capsule.folder)]) == 2
    assert "makes the capsule again" in capsys.readouterr().err


def test_a_gradient_that_is_no_number_is_laid_to_its_layer(small, monkeypatch):
    config = compose([*small, "parallel.accumulate=2"])
    with monkeypatch.context() as once:
        once.setattr(step, "clip_gradients", lambda *_: torch.tensor(float("inf")))
        with pytest.raises(Failed, match=r"gradient of step 1 .*replay .*step_00000001"):
            run(config, "default")
    (folder,) = Path(config["output_dir"]).glob("small/default/seed0/capsules/*")
    capsule = read_capsule(folder)
    found = find_step(capsule.run, 1)
    again = compute_again(capsule, found)
    assert again.gradients == [] and again.verdict.startswith("The gradient is finite here")
    assert all(row["in_the_run"] is None for row in again.micro_batches)

    def spoilt(objective, *given):
        restored(objective, *given)
        weight = objective.student.encoder.blocks[0].attn.qkv.weight
        weight.register_hook(lambda gradient: gradient * float("inf"))

    restored = replay_capsule.restore
    monkeypatch.setattr(replay_capsule, "restore", spoilt)
    again = compute_again(capsule, found)
    assert again.gradients == [SPOILT.removeprefix("student.")] and again.gradients[0] in again.verdict
    assert again.verdict in again.text() and "NaN or Inf in the gradient of 1 tensor" in again.text()

"""What a study will cost: from what runs took, and against what it then took."""

import json
import time

import pytest
import yaml
from programs import pathssl
from test_local import launch
from test_submit import options

from pathssl.errors import UserError
from pathssl.launch import earlier, plan
from pathssl.launch.calibrate import calibrate
from pathssl.launch.earlier import Hardware
from pathssl.launch.grid import compose_runs
from pathssl.launch.plan import Where, plan_of
from pathssl.launch.plan_table import answer, rows, table
from pathssl.launch.ranges import Range
from pathssl.probe_records import write_probe
from pathssl.records import append_metrics, find_runs, read_status, write_status

H100 = Hardware("NVIDIA H100", gpu=True, processes=8)
WHERE = Where(H100, together=2)
LINE = ["model=vits16", "data=folder", "data.path=/slides", "scale=small", "train.patches=1000000", "batch=b1024"]


@pytest.fixture(scope="module")
def config():
    ((config, *_),) = compose_runs([LINE])
    return config


@pytest.fixture
def planned(config, tmp_path):
    """planned(jobs, **budget) is the plan of so many runs of LINE with an output_dir of their own."""

    def make(count=4, may_guess=False, most=None, where=WHERE, scales=(), **changes):
        ours = config | {"output_dir": str(tmp_path), "budget": {"max_gpu_hours": most}} | changes
        jobs = [[*LINE, f"seed={k}"] for k in range(count)]
        configs = [ours | {"seed": k} for k in range(count)]
        return plan_of(jobs, configs, where, may_guess=may_guess, scales=scales)

    return make


def an_earlier_run(
    folder, config, *, step_s=(0.5, 0.5), probe_s=20.0, gpus=("NVIDIA H100",) * 8, processes=8, slurm=None, **changes
):
    """A finished run whose log lines took these seconds a step, ten steps to a line, the first of them ten times as slow; 30 s besides."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config | changes))
    environment = {"gpus": list(gpus), "cpu": "a CPU", "processes": processes, "slurm_job_id": slurm}
    (folder / "environment.json").write_text(json.dumps(environment))
    probed = {} if probe_s is None else {"probe_time_s": probe_s}
    append_metrics(folder, {"step": 0, "patches_seen": 0, "time_s": 0.0} | probed)
    time_s = 0.0
    for k, seconds in enumerate((10 * step_s[0], *step_s), start=1):
        time_s += 10 * seconds
        row = {"step": 10 * k, "patches_seen": 10240 * k, "train/patches_per_s": 1024 / seconds, "time_s": time_s}
        append_metrics(folder, row)
    numbers = {"step": 30, "total_steps": 30, "patches_seen": 30720, "host": "h", "job_id": None, "error": None}
    write_status(folder, "finished", **numbers, started="2026-01-01T00:00:00+00:00", starts=1)
    status = json.loads((folder / "status.json").read_text())
    end_s = int(time_s + (probe_s or 0.0) + 30)
    status["updated"] = f"2026-01-01T00:{end_s // 60:02}:{end_s % 60:02}+00:00"
    (folder / "status.json").write_text(json.dumps(status))
    for name, size in (("teacher.safetensors", 1000), ("state.pt", 5000)):
        (folder / "checkpoints/step_00000030").mkdir(parents=True, exist_ok=True)
        (folder / "checkpoints/step_00000030" / name).write_bytes(bytes(size))
    return folder


def the(row, plan):
    (found,) = [r for r in rows(plan) if r["what"].startswith(row)]
    return found


def test_a_plan_adds_up_what_earlier_runs_took(planned, config, tmp_path):
    an_earlier_run(tmp_path / "old" / "arm" / "seed0", config, step_s=(0.4, 0.6), teacher={"momentum": 0.5})
    made = planned(count=3)
    steps, probes = 1000000 // 1024, 11  # every 10 %, and the untrained encoder
    step = the("time a step", made)
    assert (step["value"], step["source"]) == (pytest.approx(0.5), "measured: 1 earlier run on 8 x NVIDIA H100")
    assert step["low"] == pytest.approx(0.42) and step["high"] == pytest.approx(0.58)  # 10 % and 90 % of two lines
    a_run_s = steps * 0.5 + probes * 20 + 30
    assert made.run_hours().mid == pytest.approx(3 * a_run_s / 3600)
    assert the("GPU-hours", made)["value"] == pytest.approx(8 * 3 * a_run_s / 3600)
    assert the("wall time", made)["value"] == pytest.approx(2 * a_run_s)  # three runs, two at a time
    assert the("disk", made)["value"] == 3 * (probes * 1000 + 5000)
    assert the("disk", made)["high"] == 3 * (probes * 1000 + 5000) + 2 * 5000  # two at a time save a second state
    assert the("steps", made)["value"] == 3 * steps and "8 x NVIDIA H100" in table(made)


@pytest.mark.parametrize(
    "changes",
    [
        {"gpus": ("NVIDIA A100",) * 8},
        {"processes": 4},
        {"model": {"name": "vit_base_patch16_224", "args": {}, "drop_path": 0.0}},
        {"resolution": {"global_px": 64}},
        {"parallel": {"mode": "fsdp"}},
        {"batch": {"size": 512}},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_what_ran_otherwise_says_nothing(changes, planned, config, tmp_path):
    an_earlier_run(tmp_path / "old" / "arm" / "seed0", config, **changes)
    made = planned()
    assert made.run_hours() is None and the("time a step", made)["value"] is None
    assert "--calibrate" in the("time a step", made)["source"] and "not known" in table(made)


def test_the_time_of_probes_is_of_the_same_features_and_of_those_that_another_process_made(config, planned, tmp_path):
    late = {"probe": config["probe"] | {"where": "job"}}
    an_earlier_run(tmp_path / "old" / "inline" / "seed0", config, probe_s=20.0)
    run = an_earlier_run(tmp_path / "old" / "late" / "seed0", config, probe_s=None, **late)
    for step, seconds in ((0, 9.0), (10, 5.0)):
        write_probe(run, step=step, patches_seen=0, task="unsupervised", results={}, probe_time_s=seconds)
    runs = earlier.earlier_runs(tmp_path)
    others = {"features": config["features"] | {"pool": "cls_mean"}}
    assert earlier.seconds_a_probe(config | others, runs) is None
    (inline, _), (beside, _) = (earlier.seconds_a_probe(config | change, runs) for change in ({}, late))
    assert (inline.mid, beside.low, beside.mid, beside.high) == (20.0, 5.0, 7.0, 9.0)
    made = planned(count=1, **late)  # which does not wait for them, and whose probes have one GPU
    a_run_s = 1000000 // 1024 * 0.5 + 30
    assert made.run_hours().mid == pytest.approx(a_run_s / 3600)
    assert made.gpu_hours().mid == pytest.approx((8 * a_run_s + 11 * 7) / 3600)


def test_on_a_cluster_the_newest_runs_there_say_which_gpus_there_are(planned, config, tmp_path):
    an_earlier_run(tmp_path / "old" / "here" / "seed0", config, step_s=(9.0, 9.0))
    an_earlier_run(
        tmp_path / "old" / "there" / "seed0", config, step_s=(0.3, 0.3), gpus=("NVIDIA H200",) * 8, slurm="7"
    )
    made = planned(where=Where(Hardware(None, True, 8), together=256))
    assert the("time a step", made)["value"] == pytest.approx(0.3) and "H200" in the("time a step", made)["source"]
    assert made.wall_hours().mid == pytest.approx(made.run_hours().mid / 4)  # all at once


def test_finished_runs_cost_nothing_and_begun_ones_what_is_left(planned, config, tmp_path):
    an_earlier_run(tmp_path / "old" / "arm" / "seed0", config)
    whole = planned(count=1).run_hours().mid
    arm = planned(count=1).costs[0].name.partition("/")[0]
    study = tmp_path / config["study"] / arm
    numbers = {"total_steps": 976, "patches_seen": 0, "host": None, "job_id": None, "error": None}
    write_status(study / "seed0", "finished", step=976, **numbers)
    (study / "seed1" / "checkpoints" / "step_00000490").mkdir(parents=True)
    made = planned(count=3)
    assert [cost.steps for cost in made.costs] == [0, 976 - 490, 976] and made.costs[1].probes == 5
    assert made.run_hours().mid < 2 * whole
    assert the("runs", made) | {"source": ""} == {
        "what": "runs",
        "value": 2,
        "low": None,
        "high": None,
        "unit": "",
        "source": "",
    }
    assert the("runs", made)["source"] == "1 more have finished or are under way, and are left alone; 1 of them go on"
    (row,) = rows(planned(count=1, scales=("tiny",)))  # nothing to do
    assert (row["value"], row["source"]) == (
        0,
        "scale=tiny; 1 more have finished or are under way, and are left alone",
    )


def test_beyond_the_budget_nothing_is_started(planned, config, tmp_path):
    an_earlier_run(tmp_path / "old" / "arm" / "seed0", config)
    hours = planned().gpu_hours().mid
    planned(most=hours + 0.1).refuse_beyond_budget()
    over = planned(most=hours - 0.1)
    with pytest.raises(UserError, match="Nothing was started"):
        over.refuse_beyond_budget()
    assert answer(over)["broken"] and "budget.max_gpu_hours=" in answer(over)["text"]


def test_without_a_measurement_there_is_a_guess_that_is_called_one_and_a_budget_holds_by_it(planned):
    made = planned(may_guess=True, where=Where(Hardware(None, True, 8), together=256))
    step = the("time a step", made)
    # 2 global views of 224 px and 8 local ones of 96 px by a ViT-S/16 (4.25 and 0.78 GMAC each), thrice, and the teacher's two, on
    # eight A100s of 312 TFLOP/s, of which 30 % are put to use.
    flops = 2e9 * (3 * (2 * 4.25 + 8 * 0.78) + 2 * 4.25) * 1024 / 8
    assert step["value"] == pytest.approx(flops / (0.3 * 312e12), rel=0.15)
    assert (
        step["source"].startswith("a guess") and "A100" in step["source"] and step["low"] < step["value"] < step["high"]
    )
    assert the("disk", made)["source"].endswith("a guess: parameters of the encoders and of Adam, without the heads")
    with pytest.raises(UserError, match="Nothing was started"):
        planned(most=1e-6).refuse_beyond_budget()


@pytest.mark.parametrize(
    ("probe_s", "start_s", "said"),
    [
        (None, None, "at least: probes and starting and saving not counted; 2 at a time"),
        (20.0, None, "at least: starting and saving not counted; 2 at a time"),
        (None, 30.0, "at least: probes not counted; 2 at a time"),
        (20.0, 30.0, "2 at a time"),
    ],
)
def test_hours_without_what_is_not_known_are_at_least_that(probe_s, start_s, said, planned, monkeypatch):
    for name, seconds in (("step", 0.5), ("probe", probe_s), ("start", start_s)):
        known = seconds and (Range(seconds, seconds, seconds), "measured")
        monkeypatch.setattr(earlier, f"seconds_a_{name}", lambda *_, known=known: known)
    made = planned()
    a_run_s = 1000000 // 1024 * 0.5 + 11 * (probe_s or 0) + (start_s or 0)
    assert the("wall time", made)["value"] == pytest.approx(2 * a_run_s) and the("wall time", made)["source"] == said
    assert the("GPU-hours", made)["source"].startswith("at least") == said.startswith("at least")
    late = planned(probe={"where": "job"})  # whose runs do not wait for them
    assert the("wall time", late)["source"].startswith("at least") == (start_s is None)
    assert the("GPU-hours", late)["source"].startswith("at least") == (None in (probe_s, start_s))


@pytest.mark.parametrize(
    ("scales", "hardware", "said"),
    [
        (
            ["paper", "paper"],
            Hardware("a CPU", False, 1),
            "scale=paper is meant for GPUs, and these runs would have none",
        ),
        (["tiny"], Hardware("a CPU", False, 1), None),
        (["paper"], H100, None),
        (["paper"], Hardware(None, False, 1), None),  # a cluster
    ],
)
def test_a_plan_says_its_scale_and_which_one_is_for_cpus(scales, hardware, said, config, tmp_path):
    ours = config | {"output_dir": str(tmp_path)}
    made = plan_of([LINE], [ours], Where(hardware, 1), may_guess=False, scales=scales)
    assert the("runs", made)["source"] == f"scale={scales[0]}"
    assert table(made).count("scale=tiny is for CPUs") == (said is not None) and (said or "") in table(made)


@pytest.mark.parametrize(("line", "scale"), [([], "tiny"), (["data=folder", "data.path=."], "small")])
def test_the_scale_is_said_where_none_was_named(line, scale, tmp_path):
    done = pathssl("plan", *line, "hydra/launcher=local", "train.device=cpu", cwd=tmp_path)
    assert done.returncode == 0 and f"scale={scale}" in done.stdout.splitlines()[1], done.stderr
    assert ("scale=tiny is for CPUs" in done.stdout) == (scale == "small")


def test_runs_are_dealt_out_to_whoever_is_free():
    assert plan._last_end([3.0, 1.0, 1.0, 1.0, 1.0], 2) == 4.0 and plan._last_end([2.0, 3.0], 5) == 3.0


@pytest.mark.parametrize(
    ("launcher", "device", "expected"),
    [
        (["slurm_multinode", "hydra.launcher.array_parallelism=4"], "auto", Where(Hardware(None, True, 16), 4)),
        (["slurm_1gpu"], "cpu", Where(Hardware(None, False, 1), 256)),
    ],
)
def test_on_a_cluster_the_launcher_says_how_many_processes_a_run_has(launcher, device, expected):
    assert plan.where_of(options(*launcher), {"device": device, "threads": 1}) == expected
    with pytest.raises(UserError, match=r"hydra\.launcher\.nodes=0"):
        plan.where_of(options("slurm_1gpu", "hydra.launcher.nodes=0"), {"device": device, "threads": 1})


def test_a_cluster_is_not_calibrated_on_the_machine_of_whoever_asks(config):
    with pytest.raises(UserError, match="these runs go to a cluster"):
        calibrate([LINE], [config], Where(Hardware(None, True, 8), 256))


def test_kinds_of_runs_have_a_line_each(config, tmp_path):
    an_earlier_run(tmp_path / "old" / "arm" / "seed0", config)
    ours = config | {"output_dir": str(tmp_path), "budget": {"max_gpu_hours": None}}
    larger = ours | {"resolution": ours["resolution"] | {"local_px": 112}}
    made = plan_of([LINE, [*LINE, "resolution.local_px=112"]], [ours, larger], WHERE, may_guess=False)
    assert [row["value"] for row in rows(made) if row["what"].startswith("time a step")] == [pytest.approx(0.5), None]
    assert made.run_hours() is None and made.beyond_budget() is None


@pytest.mark.parametrize("most", ["-1", "many", "true"])
def test_a_budget_that_is_none_is_refused(most, small, tmp_path):
    done = pathssl("verify-resume", *small, f"budget.max_gpu_hours={most}", cwd=tmp_path)
    assert done.returncode == 2 and "must be a number of hours" in done.stderr


@pytest.mark.slow
@pytest.mark.alone
def test_a_study_takes_what_its_plan_said(small, tmp_path):
    line = [*small, "seed=0,1", "train.patches=9600", "train.checkpoint_every=0.25"]
    done = pathssl("plan", *line, "--calibrate", "--json", "-m", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    planned = {row["what"]: row for row in json.loads(done.stdout)["rows"]}
    assert planned["runs"]["value"] == 2 and planned["steps"]["value"] == 2 * 1200
    assert "calibration" in planned["time a step"]["source"]
    assert not list(tmp_path.glob("outputs/calibration/*/*/*/checkpoints"))
    start_s = time.monotonic()
    done = launch(*line, cwd=tmp_path)
    took_s = time.monotonic() - start_s
    assert done.returncode == 0 and "wall time" in done.stdout, done.stderr
    runs = find_runs(tmp_path / "outputs" / "small")
    assert {read_status(run)["state"] for run in runs} == {"finished"}
    size = sum(file.stat().st_size for run in runs for file in run.glob("checkpoints/*/*"))
    said = f"planned {planned['wall time']['value']:.0f} s, took {took_s:.0f} s"
    print(said)
    assert planned["wall time"]["value"] == pytest.approx(took_s, rel=0.3), said
    assert size == pytest.approx(planned["disk"]["value"], rel=0.01)
    assert (
        earlier.earlier_runs(tmp_path / "outputs")[0].hardware.name
        == earlier.earlier_runs(tmp_path / "outputs")[-1].hardware.name
    )

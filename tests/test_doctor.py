"""What `doctor` says of things that are missing or broken, and that it always says something."""

import contextlib
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from pathssl import cli, doctor
from pathssl.doctor import check, examination, gpu, loader, machine, readers, services
from pathssl.doctor.check import Check
from pathssl.errors import UserError

GB = 10**9


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """programs(name="shell script") puts programs on a PATH that has nothing else but a shell's own."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def put(**scripts: str) -> None:
        for name, script in scripts.items():
            file = folder / name.replace("_", "-")
            file.write_text(f"#!/bin/sh\nPATH=/bin:/usr/bin\n{script}\n")
            file.chmod(0o755)

    return put


def config(**changes):
    """What the checks of the machine look at."""
    return {
        "train": {"threads": 1},
        "loader": {"workers": 1, "prefetch": 4, "open_slides": 16},
        "region": {"patches": 1, "width": 1.0, "chunk_batches": 1},
        "resolution": {"patch_px": 256},
        "batch": {"size": 256},
        **changes,
    }


# ---- the command


DOWN = "echo 'Slurmctld(primary) is DOWN' >&2; exit 1"


def overrides(cohort):
    slides = [
        "data=folder",
        f"data.path={cohort / 'slides'}",
        "data.foreground.cell_um=32",
        "data.held_out.fraction=0.25",
    ]
    return [*slides, "resolution=r64"]


def assert_only_slurm_is_broken(answer):
    assert answer["broken"] == 1 and max(len(line) for line in answer["text"].splitlines() if "/" not in line) <= 100
    by_name = {one["name"]: one for one in answer["checks"]}
    assert list(answer["checks"][0]) == ["name", "state", "found", "remedy", "figures"]
    assert all(one["state"] == "ok" or one["remedy"] for one in answer["checks"])
    assert by_name["SLURM"]["state"] == "broken" and "DOWN" in by_name["SLURM"]["found"]
    for name in ("Python", "packages", "OpenSlide", "tifffile", "output_dir", "cache_dir", "slides", "loader"):
        assert by_name[name]["state"] == "ok", by_name[name]
    assert by_name["loader"]["figures"]["patches_per_s_per_core"] > 10


def test_every_check_is_made_and_slides_are_measured(cohort, tmp_path, programs, monkeypatch):
    programs(sbatch="exit 0", scontrol=DOWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(loader, "_MEASURE_S", 0.2)
    monkeypatch.setattr(gpu, "_CUCIM_LIMIT_S", 0.1)
    answer = doctor.examine(overrides(cohort), cli.compose)
    assert_only_slurm_is_broken(answer)
    assert {path.name for path in tmp_path.iterdir()} == {"bin", "cache"}  # the index; no output folder, no lock


@pytest.mark.slow
def test_doctor_as_it_is_typed_prints_json_and_exits_with_1(cohort, tmp_path, programs):
    programs(sbatch="exit 0", scontrol=DOWN)
    command = [sys.executable, "-m", "pathssl", "doctor", *overrides(cohort), "--json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert_only_slurm_is_broken(json.loads(done.stdout))


def test_help_has_an_example(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["doctor", "--help"])
    assert stop.value.code == 0 and "example: python -m pathssl doctor data=folder" in " ".join(
        capsys.readouterr().out.split()
    )


@pytest.mark.parametrize(
    ("wrong", "says"),
    [(["dta.path=x"], "Did you mean data.path"), (["loader.workers=many"], "loader.workers=many")],
)
def test_wrong_overrides_exit_with_2_and_a_sentence(wrong, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(readers, "readers", list)
    assert cli.main(["doctor", *wrong]) == 2
    assert says in capsys.readouterr().err and not list(tmp_path.iterdir())


@pytest.mark.parametrize(("state", "code"), [("ok", 0), ("warning", 0), ("absent", 0), ("broken", 1)])
def test_only_what_is_broken_makes_the_exit_code_1(state, code, monkeypatch, capsys):
    monkeypatch.setattr(machine, "packages", lambda: [Check("packages", "ok", "all")])
    monkeypatch.setattr(examination, "_with_packages", lambda *_: [Check("thing", state, "as it is", "Mend it.")])
    assert cli.main(["doctor"]) == code
    assert "-> Mend it." in capsys.readouterr().out


def test_without_a_package_the_rest_that_needs_none_is_still_looked_at(monkeypatch, programs):
    programs()
    real = machine.version
    monkeypatch.setattr(machine, "version", lambda name: None if name in ("torch", "scipy") else real(name))
    answer = doctor.examine([], compose=None)
    found = {one["name"]: one for one in answer["checks"]}
    assert answer["broken"] == 1 and "scipy, torch" in found["packages"]["found"]
    assert "make env" in found["packages"]["remedy"] and found["SLURM"]["state"] == "absent"


def test_a_package_that_does_not_load_is_a_broken_check_and_no_traceback():
    def compose(_):
        raise ImportError("libc10.so: cannot open shared object file")

    found = examination._config([], compose)
    assert found.state == "broken" and "libc10.so" in found.found and "make env" in found.remedy


def test_text_is_aligned_and_fits_100_columns():
    long = "a sentence that goes on " * 12
    lines = check.table([Check("one", "ok", long), Check("other", "broken", "x", long)]).splitlines()
    assert max(map(len, lines)) <= 100 and lines[-1] == "1 broken."
    found_at, remedy_at = lines[0].index("a sentence"), next(line.index("->") for line in lines if "->" in line)
    assert found_at == remedy_at and lines[1].startswith(" " * found_at + lines[1].strip()[0])


# ---- the machine


def test_packages_of_other_versions_are_warned_of_unless_only_the_build_differs(monkeypatch):
    real = machine.version
    monkeypatch.setattr(
        machine, "version", lambda name: {"torch": "1.0+cu1", "timm": f"{real(name)}+x"}.get(name, real(name))
    )
    found = machine.packages()[1]
    assert found.state == "warning" and "torch 1.0+cu1 (tested: " in found.found and "timm" not in found.found
    assert "pip install torch==" in found.remedy


def test_more_workers_than_cores_are_warned_of_with_the_number_that_fits(monkeypatch):
    monkeypatch.setattr(machine, "usable_cores", lambda: (4.0, ""))
    assert machine.cpu(config()).state == "ok"
    found = machine.cpu(config(loader={"workers": 7}, train={"threads": 2}))
    assert found.state == "warning" and "takes 9" in found.found and "loader.workers=2" in found.remedy


@pytest.mark.parametrize(("available", "state"), [(10 * GB, "ok"), (400_000_000, "warning"), (100_000_000, "broken")])
def test_memory_is_compared_with_what_the_loader_keeps(available, state, monkeypatch):
    monkeypatch.setattr(machine, "available_memory", lambda: (available, ""))
    found = machine.memory(config())
    assert found.state == state and found.figures["loader_bytes"] == 5 * 256 * 256**2 * 3
    assert state == "ok" or "loader.prefetch" in found.remedy


def test_the_loader_keeps_whole_chunks_and_without_workers_only_one(monkeypatch):
    monkeypatch.setattr(machine, "available_memory", lambda: (10 * GB, ""))
    four = {"patches": 4, "width": 2.0, "chunk_batches": 4}
    batch = 256 * 256**2 * 3
    for workers, prefetch, batches in ((1, 4, 8), (1, 5, 12), (0, 5, 4)):
        settings = {"workers": workers, "prefetch": prefetch}
        found = machine.memory(config(region=four, loader=settings))
        assert found.figures["loader_bytes"] == batches * batch, settings


def test_the_loader_really_keeps_what_memory_says(index, monkeypatch):
    from pathssl.data import loader as data_loader
    from pathssl.data.patches import PatchReader
    from pathssl.data.sampling import Region, Sampler

    kept = []

    class Memory(data_loader.Memory):
        def __init__(self, **places):
            super().__init__(**places)
            kept.append(self.pixels.nbytes)

    monkeypatch.setattr(data_loader, "Memory", Memory)
    monkeypatch.setattr(data_loader, "Crew", lambda reader, memory, _: data_loader.Alone(reader, memory))
    for region in ({"patches": 1, "width": 1.0, "chunk_batches": 1}, {"patches": 4, "width": 2.0, "chunk_batches": 4}):
        settings = config(
            region=region, batch={"size": 8}, resolution={"patch_px": 32}, loader={"workers": 2, "prefetch": 5}
        )
        sampler = Sampler(
            index, slides=np.arange(len(index)), mpp=[0.5], weight=[1.0], patch_px=32, min_tissue=0.4, batch_size=8,
            region=Region(**region),
        )  # fmt: skip
        batches = data_loader.Loader(PatchReader(sampler, seed=0, open_slides=4), workers=2, prefetch=5).batches(0, 40)
        with contextlib.closing(batches):
            next(batches)
        assert machine.memory(settings).figures["loader_bytes"] == kept[-1]


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


MEMINFO = {"proc/meminfo": "MemTotal: 32000000 kB\nMemFree: 1 kB\nMemAvailable: 16000000 kB\n"}


def test_the_tightest_memory_limit_of_the_control_groups_counts(tmp_path):
    jobs = {
        **MEMINFO,
        "proc/self/cgroup": "0::/slurm/job_7/step_0\n",
        "sys/fs/cgroup/slurm/job_7/memory.max": f"{4 * GB}\n",
        "sys/fs/cgroup/slurm/job_7/memory.current": f"{3 * GB}\n",
        "sys/fs/cgroup/slurm/job_7/memory.stat": f"anon {GB}\ninactive_file {2 * GB}\n",
        "sys/fs/cgroup/slurm/job_7/step_0/memory.max": "max\n",
        "sys/fs/cgroup/slurm/job_7/step_0/memory.current": "5\n",
    }
    available, limit = machine.available_memory(write(tmp_path, jobs))
    assert available == 3 * GB and "limit" in limit
    old = {
        **MEMINFO,
        "proc/self/cgroup": "4:memory:/of/the/host\n2:cpuacct,cpu:/\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{2 * GB}",
        "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{GB}",
        "sys/fs/cgroup/memory/memory.stat": "total_inactive_file 0",
    }
    assert machine.available_memory(write(tmp_path / "old", old))[0] == GB
    assert machine.available_memory(write(tmp_path / "free", MEMINFO)) == (16_000_000 * 1024, "")


@pytest.mark.parametrize(
    "quota", [{"cpu.max": "50000 100000"}, {"cpu.cfs_quota_us": "50000", "cpu.cfs_period_us": "100000"}]
)
def test_a_cpu_quota_limits_the_cores(quota, tmp_path):
    old = "cpu.max" not in quota
    groups = {"proc/self/cgroup": "2:cpu:/a\n" if old else "0::/a\n"}
    groups |= {f"sys/fs/cgroup/{'cpu/' if old else ''}a/{name}": text for name, text in quota.items()}
    cores, limit = machine.usable_cores(write(tmp_path, groups))
    assert cores == 0.5 and "limit" in limit


# ---- readers


def test_cucim_is_found_missing_where_it_is_hidden_and_its_remedy_and_cost_are_said(tmp_path, monkeypatch):
    write(tmp_path, {"sitecustomize.py": "import sys; sys.modules['cucim'] = None\n"})
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(readers, "version", lambda name: None if name.startswith("cucim") else machine.version(name))
    found = {one.name: one for one in readers.readers()}
    assert found["cuCIM"].state == "absent" and "40 %" in found["cuCIM"].found
    assert "pip install --no-deps" in found["cuCIM"].remedy
    assert found["OpenSlide"].state == found["tifffile"].state == found["pixels"].state == "ok"


def test_a_reader_that_ends_the_process_or_does_not_load_is_named(tmp_path, monkeypatch):
    crash = "import os\n\ndef __getattr__(name):\n    os.abort()\n"
    write(
        tmp_path,
        {"cucim/__init__.py": crash, "imagecodecs/__init__.py": "raise ImportError('libdeflate.so.0 is missing')\n"},
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = {one.name: one for one in readers.readers()}
    assert found["cuCIM"].state == "broken" and "signal 6" in found["cuCIM"].found
    assert "pip uninstall cucim" in found["cuCIM"].remedy
    assert found["tifffile"].state == "broken" and "pip install" in found["tifffile"].remedy


def test_readers_that_disagree_are_warned_of(monkeypatch):
    monkeypatch.setattr(readers, "_ask", lambda _, reader: ("decoded", reader[0]))
    assert readers.readers()[-1].state == "warning" and "data.reader=" in readers.readers()[-1].remedy


# ---- GPUs

FACTS = {"torch": "2.15.0", "built_for": "13.0", "there": False, "gpus": [], "said": [], "nccl": None}
GPU = {"name": "H100", "total": 80 * 2**30, "free": 70 * 2**30, "bf16": True}


def test_no_gpu_is_absent_not_broken(programs):
    programs()
    assert gpu._unusable(FACTS).state == "absent"


@pytest.mark.parametrize(
    ("facts", "hidden", "says"),
    [
        (
            {"said": ["The NVIDIA driver on your system is too old (found version 12020). Please"]},
            None,
            "Update the NVIDIA driver",
        ),
        ({"built_for": None}, None, "pip install"),
        ({}, "", "unset CUDA_VISIBLE_DEVICES"),
    ],
)
def test_a_gpu_that_torch_cannot_use_comes_with_the_remedy(facts, hidden, says, programs, monkeypatch):
    programs(nvidia_smi="echo NVIDIA A100, 535.104.05")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if hidden is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    found = gpu._unusable(FACTS | facts)
    assert found.state == "broken" and "535.104.05" in found.found and says in found.remedy


def test_a_driver_that_does_not_answer_is_a_warning(programs):
    programs(nvidia_smi="echo couldn\\'t communicate with the NVIDIA driver; exit 9")
    found = gpu._unusable(FACTS)
    assert found.state == "warning" and "communicate" in found.found and "login node" in found.remedy


@pytest.mark.parametrize(
    ("facts", "state"),
    [
        ({"gpus": [GPU, GPU], "nccl": "2.30.7"}, "ok"),
        ({"gpus": [GPU, GPU]}, "warning"),
        ({"gpus": [GPU | {"bf16": False}], "nccl": "2.30.7"}, "warning"),
        ({"fails": "CUDA error: no kernel image is available\nmore"}, "broken"),
    ],
)
def test_gpus_are_named_with_what_they_lack(facts, state):
    found = gpu._usable(FACTS | {"there": True} | facts)
    assert found.state == state and ("2 x H100; 70 of 80" in found.found) == (len(facts.get("gpus", ())) == 2)


def test_torch_that_cannot_be_imported_is_broken_and_its_last_line_is_said(tmp_path, monkeypatch):
    write(tmp_path, {"torch.py": "raise ImportError('libcudart.so.13: no such file')"})
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with contextlib.closing(gpu.Probe()) as probe:
        found = probe.gpu()
        assert found.state == "broken" and "libcudart.so.13" in found.found and probe.trap() is None


def test_a_process_that_hangs_on_loading_cucim_is_left_after_seconds(tmp_path, monkeypatch):
    (tmp_path / "cucim.py").write_text("import time; time.sleep(60)")
    torch = "class cuda:\n    is_available = staticmethod(lambda: False)\nclass version:\n    cuda = None\n__version__ = '0'\n"
    (tmp_path / "torch.py").write_text(torch)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(gpu, "_CUCIM_LIMIT_S", 0.5)
    since = time.monotonic()
    with contextlib.closing(gpu.Probe()) as probe:
        probe.gpu()
        found = probe.trap()
    assert found.state == "ok" and "hangs here" in found.found and time.monotonic() - since < 20


# ---- slides


def measured(index, tmp_path):
    """(config, data) of the small cohort, as `speed` takes them."""
    overrides = [
        "data=folder",
        f"data.path={index.root}",
        f"cache_dir={tmp_path}",
        "data.foreground.cell_um=32",
        "resolution=r64",
    ]
    settings = cli.compose([*overrides, "data.held_out.fraction=0.25"])
    found, data = loader.slides(settings, "")
    assert found.state == "ok", found
    return settings, data


def test_advice_names_what_would_raise_the_measured_speed(index, tmp_path, monkeypatch):
    settings, data = measured(index, tmp_path)
    settings["loader"]["open_slides"] = 1
    monkeypatch.setattr(loader, "_rate", lambda *given: 100.0 * given[-1]["patches"])
    monkeypatch.setattr(loader, "_openings", lambda _: (loader.Counter(openslide=3, cucim=1), 0.005))
    found = loader.speed(settings, data, {"patches": 4})
    assert "100 patches/s per core" in found.found and "M/100 workers" in found.found
    assert "openslide reads 3 of 4 slides" in found.remedy and "loader.open_slides=3" in found.remedy
    assert "region=four reads 400 patches/s" in found.remedy
    settings["region"], settings["loader"]["open_slides"] = {"patches": 4}, 16
    monkeypatch.setattr(loader, "_openings", lambda _: (loader.Counter(cucim=4), 0.005))
    assert loader.speed(settings, data, {"patches": 4}).remedy == ""


def test_the_share_of_slides_that_are_resampled_is_said(index, tmp_path):
    _, data = measured(index, tmp_path)
    assert loader._resampled(data) == ""
    data.sampler.mpp = np.array([0.8])
    assert "100% of the slides have no level at 0.8 um/px: resampled, from 2.6 times the pixels" in loader._resampled(
        data
    )


def test_slow_storage_is_named_as_the_slow_side(index, tmp_path, monkeypatch):
    _, data = measured(index, tmp_path)
    assert loader.storage(data).figures["read_ms"] > 0
    monkeypatch.setattr(loader, "_reads_s", lambda _: [0.02] * 5)
    found = loader.storage(data)
    assert found.state == "warning" and "local disk" in found.remedy and "20 ms" in found.found
    monkeypatch.setattr(loader, "_reads_s", lambda _: [])
    assert loader.storage(data) is None


def test_a_slide_that_went_away_is_a_broken_check(index, tmp_path, monkeypatch):
    settings, data = measured(index, tmp_path)

    def gone(*_):
        raise FileNotFoundError("case_000.tif is not there")

    monkeypatch.setattr(loader, "_rate", gone)
    found = loader.speed(settings, data, {"patches": 4})
    assert found.state == "broken" and "case_000.tif" in found.found


@pytest.mark.parametrize(
    ("raises", "state", "says"),
    [
        (UserError("There is nothing at data.path=x"), "broken", "data.path=x Mend that"),
        (PermissionError(13, "Permission denied"), "broken", "Permission denied"),
        (TimeoutError(), "absent", "python -m pathssl index data=folder"),
    ],
)
def test_slides_that_cannot_be_had_come_with_the_command(raises, state, says, monkeypatch):
    def data(_):
        raise raises

    monkeypatch.setattr("pathssl.parts.Data", data)
    found, nothing = loader.slides({"data": {"path": "x", "cohort": None}}, " data=folder")
    assert nothing is None and found.state == state and says in f"{found.found} {found.remedy}"


def test_a_cohort_that_is_not_written_is_not_written_by_doctor(tmp_path):
    settings = {"data": {"path": None, "cohort": {"_target_": "x", "cases": 3}}, "cache_dir": str(tmp_path)}
    found, data = loader.slides(settings, "")
    assert found.state == "absent" and data is None and not list(tmp_path.iterdir())


# ---- services


def test_without_sbatch_runs_go_through_the_local_queue(programs):
    programs()
    assert services.slurm().state == "absent" and "local queue" in services.slurm().found


def test_a_controller_that_hangs_is_left_after_the_limit(programs, monkeypatch):
    programs(sbatch="", scontrol="sleep 60 & sleep 60")
    monkeypatch.setattr(services, "_SLURM_LIMIT_S", 0.3)
    since = time.monotonic()
    found = services.slurm()
    assert found.state == "broken" and "no answer in 0.3 s" in found.found and time.monotonic() - since < 10


def test_partitions_are_listed_where_slurm_answers(programs):
    programs(sbatch="", scontrol="echo UP", sinfo="echo 'gpu* 4 gpu:h100:8'; echo 'cpu 10 (null)'")
    found = services.slurm()
    assert found.state == "ok" and "gpu* (4 nodes, gpu:h100:8), cpu (10 nodes, no GPU)" in found.found
    programs(sinfo="exit 0")
    assert services.slurm().state == "warning"


@pytest.fixture
def nobody(tmp_path, monkeypatch):
    """A home without W&B's key, and no proxy."""
    for name in ("WANDB_API_KEY", "WANDB_BASE_URL", "https_proxy", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    return tmp_path / "netrc"


def test_wandb_without_an_account_matters_only_to_those_who_asked_for_it(nobody):
    assert services.wandb(None).state == "absent" and services.wandb({"mode": "offline"}).state == "ok"
    found = services.wandb({"mode": "online"})
    assert found.state == "warning" and "wandb login" in found.remedy and "wandb_offline" in found.remedy
    nobody.write_text("machine api.wandb.ai\n login user\n password 0123456789secret\n")
    assert services.wandb(None).state == "ok" and "secret" not in str(services.wandb(None))
    nobody.write_text("machine machine machine")  # no netrc at all
    assert services.wandb(None).state == "absent"


@pytest.mark.usefixtures("nobody")
def test_wandb_that_cannot_be_reached_is_a_warning_that_never_says_the_key(monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "secret")
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1")
    monkeypatch.setattr(services, "_connect", lambda _: time.sleep(30))
    monkeypatch.setattr(services, "_NETWORK_LIMIT_S", 0.2)
    found = services.wandb({"mode": "online"})
    assert found.state == "warning" and "127.0.0.1 cannot be reached" in found.found and "secret" not in str(found)
    assert "wandb_offline" in found.remedy


@pytest.mark.usefixtures("nobody")
def test_a_proxy_is_what_is_connected_to(monkeypatch):
    asked = []

    class Connection:
        def __init__(self, to, **_):
            asked.append(to)

        def close(self):
            pass

    monkeypatch.setattr(services.socket, "create_connection", Connection)
    services._connect("api.wandb.ai")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    services._connect("api.wandb.ai")
    assert asked == [("api.wandb.ai", 443), ("proxy", 3128)]


def test_disks_are_tried_where_the_folder_would_be_made_and_nothing_stays(tmp_path, monkeypatch):
    found = services.disk("output_dir", tmp_path / "not" / "there")
    assert found.state == "ok" and "not there yet" in found.found and not list(tmp_path.iterdir())
    monkeypatch.setattr(services, "_LITTLE_DISK_BYTES", 1e18)
    assert services.disk("output_dir", tmp_path).state == "warning"


def test_a_disk_without_locks_or_permission_is_broken(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    assert services.disk("cache_dir", tmp_path / "file").state == "broken"
    monkeypatch.setattr(services, "_locks", lambda _: False)
    found = services.disk("cache_dir", tmp_path)
    assert found.state == "broken" and "keeps nobody out" in found.found and "NFS" in found.remedy

    def refused(_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(services, "_locks", refused)
    assert "No locks available" in services.disk("cache_dir", tmp_path).found
    monkeypatch.setattr(services, "_locks", lambda _: time.sleep(30))
    monkeypatch.setattr(services, "_DISK_LIMIT_S", 0.2)
    assert "hangs" in services.disk("cache_dir", tmp_path).found


def test_within_returns_raises_or_gives_up():
    assert check.within(5, lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        check.within(5, lambda: 1 / 0)
    since = time.monotonic()
    with pytest.raises(TimeoutError, match=r"0\.1 s"):
        check.within(0.1, lambda: time.sleep(30))
    assert time.monotonic() - since < 5

"""The command: every check is made, and what does not work is said and counted."""

import json
import subprocess
import sys

import pytest

from pathssl import cli, doctor
from pathssl.doctor import examination, gpu, loader, machine, readers
from pathssl.doctor.check import Check

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


@pytest.mark.slow
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

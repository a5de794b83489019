import numpy as np
import pytest

from pathssl import cli
from pathssl.doctor import loader
from pathssl.errors import UserError


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
    data.sampler.magnification.mpp = np.array([0.8])
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

    monkeypatch.setattr("pathssl.sources.Data", data)
    found, nothing = loader.slides({"data": {"path": "x", "cohort": None}}, " data=folder")
    assert nothing is None and found.state == state and says in f"{found.found} {found.remedy}"


def test_a_cohort_that_is_not_written_is_not_written_by_doctor(tmp_path):
    settings = {"data": {"path": None, "cohort": {"_target_": "x", "cases": 3}}, "cache_dir": str(tmp_path)}
    found, data = loader.slides(settings, "")
    assert found.state == "absent" and data is None and not list(tmp_path.iterdir())

"""Suites of tasks: what they are made of, that lists of them compose, and that all that is missing is named at once."""

from functools import cache

import pytest
from hydra import compose, initialize_config_dir
from miniatures import bach
from omegaconf import OmegaConf

from pathssl import parts, sources
from pathssl.complaints import CONF
from pathssl.errors import UserError
from pathssl.probes.evaluate import fitting

PAPER = ["bach", "crc", "mhist", "pcam", "consep", "tp53"]


@cache
def composed(*overrides: str) -> dict:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return OmegaConf.to_container(compose("config", list(overrides)), resolve=True)


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("paper", PAPER),
        ("[paper,folder]", [*PAPER, "folder"]),
        ("[quick,synthetic_nuclei]", ["bach", "mhist", "pcam_10shot", "synthetic_nuclei"]),
        ("[quick,paper]", ["bach", "mhist", "pcam_10shot", "crc", "pcam", "consep", "tp53"]),
    ],
)
def test_suites_are_lists_of_tasks_and_stand_in_lists(asked, found):
    config = composed(f"task={asked}", "data=tcga_20x", "+task.folder.path=x")
    assert [name for name in config["task"] if "_target_" in config["task"][name]] == found


def test_the_papers_suite_brings_a_protocol_for_masks_unless_others_are_named():
    assert "seg_linear" in composed("task=paper")["probe"] and "seg_linear" not in composed("task=quick")["probe"]
    assert composed("task=[paper]", "probe=[eva]")["probe"].keys() == {"where", "eva"}


def test_all_that_is_missing_is_named_in_one_message_with_where_it_is_had(tmp_path, monkeypatch):
    monkeypatch.setenv("PATHSSL_DATASETS", str(tmp_path))
    monkeypatch.setenv("PATHSSL_TCGA", str(tmp_path / "tcga"))
    bach(tmp_path / "bach", size=(64, 48))
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = OmegaConf.to_container(compose("config", ["task=paper", f"cache_dir={tmp_path}"]), resolve=True)
    with pytest.raises(UserError) as refused:
        sources.check_tasks(config)
    said = str(refused.value).splitlines()
    assert said[0] == "5 of 6 tasks cannot be read. The others can be had alone: task=[bach]."
    assert [line.split(":")[0].strip() for line in said[1:]] == PAPER[1:]
    assert all("to be had from http" in line for line in said[1:])
    labels = tmp_path / "tp53" / "labels.csv"
    labels.parent.mkdir()
    labels.write_text("case,label\nTCGA-A2-A0T2,1\n")
    config["task"] = {name: config["task"][name] for name in ("bach", "tp53")}
    with pytest.raises(UserError, match=r"^The slides of .*labels\.csv, in .*tcga"):  # one alone speaks for itself
        sources.check_tasks(config)
    (tmp_path / "tcga").mkdir()
    sources.check_tasks(config)  # slides are read when they are indexed
    for key in ("labels", "path"):
        with pytest.raises(UserError, match=f"^{key}=null: give a path"):
            sources.check_tasks({**config, "task": {"tp53": config["task"]["tp53"] | {key: None}}})


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("+probe.eva_2024.by_task.bach.patince=3", r"by_task\.bach: patince is no setting of eva_2024, which has optimiser, lr, "),
        ("+probe.eva_2024.by_task.pcamm.patience=3", r"by_task\.pcamm: there is no such task .*: bach, bags, bracs, .*, tp53\.$"),
        ("+probe.eva_2024.by_task.paper.patience=3", r"by_task\.paper: there is no such task"),  # a list of tasks
        ("+probe.linear.by_task=3", r"probe\.linear\.by_task=3: give settings for tasks by their names"),
        ("probe.eva_2024.by_task.bach=3", r"by_task\.bach: 3 is no setting of eva_2024"),
    ],
)  # fmt: skip
def test_a_slip_in_the_settings_of_one_task_is_named(override, says):
    with pytest.raises(UserError, match=says):
        parts.protocols(composed("task=quick", "probe=[linear,eva_2024]", override))


def test_settings_may_be_of_any_task_of_the_run_or_of_none():
    config = composed("task=quick", "probe=[eva_2024]", "+probe.eva_2024.by_task.tp53.patience=3", "+task.mine.path=x")
    config["probe"]["eva_2024"]["by_task"]["mine"] = {"batch": 7}
    protocol = parts.protocols(config)["eva_2024"]
    assert (protocol.of("mine").batch, protocol.of("tp53").patience) == (7, 3)
    assert not hasattr(parts.protocols(composed("probe=[eva_2024]", "probe.eva_2024.by_task=null"))["eva_2024"], "of")


def test_tasks_of_some_names_have_the_settings_of_their_published_protocol():
    protocols = parts.protocols(composed("task=quick", "probe=[eva_2024,eva]"))
    of = {name: fitting(name, None, protocols) for name in ("crc", "pcam", "bach", "mhist", "folder")}
    found = {name: (one["eva_2024"].batch, one["eva_2024"].lr, one["eva_2024"].patience) for name, one in of.items()}
    assert found == {
        "crc": (4096, 0.01, 24), "pcam": (4096, 0.01, 9), "bach": (256, 6.25e-4, 400), "mhist": (256, 6.25e-4, 51),
        "folder": (256, 6.25e-4, 0.05),
    }  # fmt: skip
    assert {one["eva"].batch for one in of.values()} == {256}

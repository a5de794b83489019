"""Two runs side by side: every kind of difference is named, once, and metrics are those of a point that both have."""

import json

import pytest
import yaml
from fake_study import ACCURACY, DEMO, write_study
from programs import pathssl

from pathssl import probe_records
from pathssl.errors import UserError
from pathssl.files import write_atomic
from pathssl.report.run_pair import Difference, compare_runs, pair_text

ENVIRONMENT = {
    "commit": "abc",
    "diff": "",
    "cpu": "AMD",
    "gpus": [],
    "python": "3.11.7",
    "packages": {"torch": "2.15.0", "six": "1"},
}


@pytest.fixture
def runs(tmp_path):
    folder = write_study(tmp_path / "demo", {"teacher=m0.9": 0.0, "teacher=m0.99": 0.1}, seeds=2, report=DEMO)
    runs = [folder / arm / "seed0" for arm in ("teacher=m0.9", "teacher=m0.99")]
    for run in runs:
        write_atomic(run / "environment.json", json.dumps(ENVIRONMENT))
        write_atomic(run / "data.json", json.dumps({"slides": 9, "held_out": [f"s{k}.svs" for k in range(4)]}))
        write_atomic(run / "tasks.json", json.dumps({"synthetic": {"splits": {"test": {"samples": 30}}}}))
    return runs


def differences(runs, kind):
    return {one.what: (one.first, one.second) for one in compare_runs(*runs).differences[kind]}


def test_arms_differ_in_their_setting_and_in_nothing_else(runs):
    pair = compare_runs(*runs)
    assert pair.differences["config"] == [Difference("teacher.momentum", "0.9", "0.99")]
    assert not any(pair.differences[kind] for kind in ("code", "packages", "data", "hardware"))
    assert compare_runs(runs[0], runs[0].parent / "seed1").differences["config"] == [Difference("seed", "0", "1")]


def test_code_packages_data_and_hardware_that_differ_are_named_and_what_cannot_matter_is_not(runs):
    other = ENVIRONMENT | {
        "commit": "def",
        "diff": "- a\n+ b",
        "gpus": ["NVIDIA H100"],
        "packages": {"torch": "2.16.0", "six": "2"},
    }
    write_atomic(runs[1] / "environment.json", json.dumps(other))
    write_atomic(runs[1] / "data.json", json.dumps({"slides": 9, "held_out": ["s0.svs", "s1.svs", "s2.svs", "t.svs"]}))
    write_atomic(runs[1] / "tasks.json", json.dumps({"synthetic": {"splits": {"test": {"samples": 31}}}, "more": {}}))
    config = yaml.safe_load((runs[1] / "config.yaml").read_text())
    write_atomic(
        runs[1] / "config.yaml",
        yaml.safe_dump(config | {"loader": {"workers": 9}, "data": {"path": "/elsewhere", "workers": 2}}),
    )
    assert differences(runs, "code") == {
        "commit": ("abc", "def"),
        "working tree": ("as committed", "2 lines of uncommitted changes"),
    }
    assert differences(runs, "packages") == {"torch": ("2.15.0", "2.16.0")}
    assert differences(runs, "hardware") == {"gpus": ("[]", "['NVIDIA H100']")}
    assert differences(runs, "data") == {
        "held_out": ("4, of these alone s3.svs", "4, of these alone t.svs"),
        "task synthetic.splits.test.samples": ("30", "31"),
    }
    assert differences(runs, "config") == {"teacher.momentum": ("0.9", "0.99")}


def test_metrics_are_of_the_last_point_that_both_were_probed_at(runs):
    pair = compare_runs(*runs)
    assert pair.patches == 200 * 64
    assert pair.metrics[ACCURACY] == tuple(probe_records.read_rows(run)[-1][ACCURACY] for run in runs)
    assert "metrics after 12 800 patches, 2 minus 1:" in pair_text(pair).replace(
        "\N{NARROW NO-BREAK SPACE}", " "
    ).replace("\N{NO-BREAK SPACE}", " ")


def test_as_it_is_typed(runs, tmp_path):
    done = pathssl("compare", *runs, "--json", cwd=tmp_path)
    answer = json.loads(done.stdout)
    assert answer["differences"]["config"] == [{"what": "teacher.momentum", "first": "0.9", "second": "0.99"}]
    assert set(answer["metrics"][ACCURACY]) == {"first", "second"}
    with pytest.raises(UserError, match=r"no run in .*demo: give two runs' folders"):
        compare_runs(runs[0], runs[0].parents[1])

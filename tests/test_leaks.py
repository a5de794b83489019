"""What a run trains on of its tasks is looked for once."""

import json

import pytest

from pathssl import sources
from pathssl.checks import check
from pathssl.cli import compose
from pathssl.errors import UserError
from pathssl.leakage.guard import Findings
from pathssl.leaks import find_leaks, guard_probe, write_leaks
from pathssl.records import read_json


def test_what_leakage_json_knows_is_not_looked_for_again(small, tmp_path):
    config = compose([*small, "leakage.patches=8"])
    tasks = sources.tasks(config)
    write_leaks(tmp_path, find_leaks(tmp_path, config, tasks, lambda: sources.Data(config)))
    record = read_json(tmp_path / "leakage.json")
    assert record["overlaps"] == [] and record["compared"]["images"] == {"synthetic": len(tasks["synthetic"])}
    record["overlaps"] = [{"task": "synthetic", "kind": "case", "name": "kept", "images": ["x.png"]}]
    (tmp_path / "leakage.json").write_text(json.dumps(record))
    found = find_leaks(tmp_path, config, tasks, lambda: pytest.fail("slides were opened"))
    assert found == Findings.of_record(record)
    more = compose([*small, "leakage.patches=9"])
    assert find_leaks(tmp_path, more, tasks, lambda: sources.Data(more)).overlaps == []
    tasks["synthetic"].groups_N[0] = "x"
    assert find_leaks(tmp_path, config, tasks, lambda: sources.Data(config)).overlaps == []


def test_a_run_that_trains_nothing_has_no_training_slides(small, tmp_path):
    config = compose([*small, "leakage.patches=8"])
    tasks = sources.tasks(config)
    data = sources.Data(config)
    tasks["synthetic"].groups_N[0] = data.index.case[int(data.training_slides[0])]
    tasks["synthetic"].grouped = True
    assert "case" in [one.kind for one in find_leaks(tmp_path, config, tasks, lambda: data).overlaps]
    write_leaks(tmp_path, find_leaks(tmp_path, config, tasks, lambda: data))  # as runs of before have it
    config = compose([*small, "leakage.patches=8", "train.patches=0", "leakage.on_overlap=refuse"])
    found = find_leaks(tmp_path, config, tasks, lambda: pytest.fail("slides were opened"))
    assert found.overlaps == [] and [found.compared[key] for key in ("cases", "slides", "pictures")] == [0, 0, 0]
    guard_probe(tmp_path, config, compose(small), "synthetic", tasks["synthetic"])
    assert read_json(tmp_path / "leakage.json")["overlaps"] == []


def test_what_published_weights_were_trained_on_counts_as_found(small, tmp_path):
    more = ["train.patches=0", "init=timm", "init.name=hf-hub:a/b", "leakage.trained_on=[synthetic,tp53]"]
    config = compose([*small, *more])
    tasks = sources.tasks(config)
    found = find_leaks(tmp_path, config, tasks, lambda: pytest.fail("slides were opened"))
    assert [(one.task, one.kind, one.name) for one in found.of_training()] == [("synthetic", "weights", "hf-hub:a/b")]
    with pytest.raises(UserError, match="synthetic: weights hf-hub:a/b"):
        guard_probe(tmp_path, config, compose(small), "synthetic", tasks["synthetic"])
    with pytest.raises(UserError, match="names of tasks"):
        check(compose([*small, "leakage.trained_on=tp53"]))
    with pytest.raises(UserError, match=r"leakage\.trained_on names crcc, which is no task of this run"):
        check(compose([*small, "leakage.trained_on=[crcc]"]))

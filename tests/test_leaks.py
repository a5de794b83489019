"""What a run trains on of its tasks is looked for once."""

import json

import pytest

from pathssl import sources
from pathssl.cli import compose
from pathssl.leakage.guard import Findings
from pathssl.leaks import find_leaks, write_leaks
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

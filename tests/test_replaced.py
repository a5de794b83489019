import json

from pathssl import replaced


def written(folder):
    replaced.append_replaced(folder, 3, [(40, "a.svs", "bad tile")])
    replaced.append_replaced(folder, 5, [(61, "b.svs", "bad tile"), (61, "a.svs", "cut"), (62, "b.svs", "bad tile")])
    replaced.append_replaced(folder, 15, [(190, "b.svs", "é")])
    return folder / "replaced.jsonl"


def test_a_step_gives_its_own_lines_and_no_other_s(tmp_path):
    written(tmp_path)
    found = replaced.read_replaced(tmp_path, 5)
    assert [(line["patch"], line["slide"]) for line in found] == [(61, "b.svs"), (61, "a.svs"), (62, "b.svs")]
    assert replaced.read_replaced(tmp_path, 15) == [{"step": 15, "patch": 190, "slide": "b.svs", "reason": "é"}]
    assert replaced.read_replaced(tmp_path, 1) == []


def test_a_run_resumed_at_a_step_keeps_that_step_and_drops_what_came_after(tmp_path):
    path = written(tmp_path)
    with open(path, "a") as file:
        file.write('{"step": 15, "pat')  # the half line of a killed process
    assert len(replaced.read_replaced(tmp_path, 15)) == 1
    replaced.cut_replaced(tmp_path, 15)
    assert len(path.read_text().splitlines()) == 5
    replaced.cut_replaced(tmp_path, 5)
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [3, 5, 5, 5]
    replaced.cut_replaced(tmp_path, 0)
    assert path.read_text() == ""


def test_a_run_in_which_nothing_failed_has_no_file(tmp_path):
    replaced.cut_replaced(tmp_path, 0)
    assert replaced.read_replaced(tmp_path, 1) == []
    assert not list(tmp_path.iterdir())

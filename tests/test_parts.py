import pandas as pd
import pytest
from PIL import Image

from pathssl import parts, sources
from pathssl.cli import compose
from pathssl.errors import UserError
from pathssl.probes.folder import folder_task
from pathssl.slides.index import SlideIndex


def labelled(folder, labels):
    folder.mkdir()
    rows = []
    for i, (label, split) in enumerate(labels):
        Image.new("RGB", (8, 8), (i, i, i)).save(folder / f"{i}.png")
        rows.append({"path": f"{i}.png", "label": label, "split": split})
    pd.DataFrame(rows).to_csv(folder / "labels.csv", index=False)
    return folder_task(path=str(folder), image_px=8, val_fraction=0.2, threads=1, cache_mib=1)


LABELS = [("x", "train"), ("y", "train"), ("x", "val"), ("y", "val"), ("x", "test"), ("y", "test")]


def test_a_task_is_known_by_its_labels_wherever_it_lies(tmp_path):
    one, moved = labelled(tmp_path / "one", LABELS), labelled(tmp_path / "moved", LABELS)
    other = labelled(tmp_path / "other", [*LABELS[:-2], ("y", "test"), ("x", "test")])
    assert sources.task_hash(one) == sources.task_hash(moved) != sources.task_hash(other)


def test_a_file_of_weights_is_known_by_its_content(tmp_path):
    for name, content in {"a": b"1", "b": b"1", "c": b"2"}.items():
        (tmp_path / name).write_bytes(content)
    a, b, c = (parts.file_hash(tmp_path / name) for name in "abc")
    assert a == b != c and parts.file_hash(None) is None


def test_an_index_that_was_built_anew_is_not_taken_for_the_old_one(index, monkeypatch):
    function, arguments = index.__reduce__()
    assert function(*arguments).paths == index.paths
    shorter = SlideIndex.load(index.folder, index.root)
    object.__setattr__(shorter, "paths", index.paths[1:])
    monkeypatch.setattr(SlideIndex, "load", lambda *_: shorter)
    with pytest.raises(UserError, match="changed while this run was starting"):
        function(*arguments)


def test_held_out_patches_are_known_by_case_and_site(small, cohort):
    data = sources.Data(compose([*small, "data.held_out.fraction=0.5"]))
    cases, sites = data.held_out_owners
    site_of = pd.read_csv(cohort / "manifest.csv").set_index("case")["site"].to_dict()
    assert len(cases) == len(data.held_out_patches) == 64 and sites == [site_of[case] for case in cases]
    assert set(cases) == {data.index.case[k] for k in data.held_out_slides} and len(set(cases)) == 2

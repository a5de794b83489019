"""notebooks/: short, stripped, lead where they say, and run from top to bottom on the small cohort."""

import os
import re
import shlex
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SLIDES = '"data=synthetic"'  # what each is told of its slides, in the list CHOICES


def cells(path: Path, kind: str) -> list:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == kind]


def test_there_are_the_four_that_the_readme_names():
    names = {path.name for path in NOTEBOOKS}
    assert names == {
        f"{name}.ipynb" for name in ("look_at_slides", "look_at_views", "look_at_features", "read_a_study")
    }
    assert names <= set(re.findall(r"\(notebooks/([\w.]+)\)", (ROOT / "README.md").read_text()))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_short_and_stripped(path):
    book = nbformat.read(path, as_version=4)
    nbformat.validate(book)
    assert len(book.cells) <= 10
    assert book.metadata == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in cells(path, "code"):
        assert cell.outputs == [] and cell.execution_count is None and cell.metadata == {}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_the_text_names_is_there(path):
    from test_documentation import check

    text = "\n".join(cell.source for cell in cells(path, "markdown"))
    for link in re.findall(r"\]\(([^)]+)\)", text):
        assert (path.parent / link).resolve().is_file(), link
    for name in re.findall(r"`((?:conf|pathssl|docs)/[\w./]+)`", text):
        assert (ROOT / name).exists(), name
    for command in re.findall(r"`(python [^`]+)`", text):
        check(shlex.split(command))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_it_imports_of_ours_is_there(path):
    lines = [line for cell in cells(path, "code") for line in cell.source.splitlines()]
    imports = [line for line in lines if line.startswith(("from pathssl", "import pathssl"))]
    assert len(imports) > 3
    exec("\n".join(imports), {})


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_from_top_to_bottom(path, small, tmp_path, monkeypatch):
    """With the small cohort's slides and the small model, in a folder of its own; nothing is written beside the notebooks."""
    before = {file for folder in (ROOT, ROOT / "notebooks") for file in folder.iterdir()}
    book = nbformat.read(path, as_version=4)
    (place,) = [cell for cell in book.cells if cell.cell_type == "code" and SLIDES in cell.source]
    place.source = place.source.replace(SLIDES, f"*{small!r}")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]))
    NotebookClient(book, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [output for cell in book.cells if cell.cell_type == "code" for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in shown)
    assert {file for folder in (ROOT, ROOT / "notebooks") for file in folder.iterdir()} == before
    if path.stem == "read_a_study":
        text = "".join(output.text for output in shown if output.output_type == "stream")
        assert "6 runs; arms: teacher=m0.98, teacher=m0.99" in text
        assert "teacher=m0.99 − teacher=m0.98: " in text and "Student t over 3 seeds, pooled" in text

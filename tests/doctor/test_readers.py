from fake_files import write_files

from pathssl.doctor import machine, readers


def test_cucim_is_found_missing_where_it_is_hidden_and_its_remedy_and_cost_are_said(tmp_path, monkeypatch):
    write_files(tmp_path, {"sitecustomize.py": "import sys; sys.modules['cucim'] = None\n"})
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(readers, "version", lambda name: None if name.startswith("cucim") else machine.version(name))
    found = {one.name: one for one in readers.readers()}
    assert found["cuCIM"].state == "absent" and "40 %" in found["cuCIM"].found
    assert "pip install --no-deps" in found["cuCIM"].remedy
    assert found["OpenSlide"].state == found["tifffile"].state == found["pixels"].state == "ok"


def test_a_reader_that_ends_the_process_or_does_not_load_is_named(tmp_path, monkeypatch):
    crash = "import os\n\ndef __getattr__(name):\n    os.abort()\n"
    write_files(
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

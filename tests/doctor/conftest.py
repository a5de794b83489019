"""Programs for the tests of this room."""

import pytest


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """programs(name="shell script") puts programs on a PATH that has nothing else but a shell's own."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def put(**scripts: str) -> None:
        for name, script in scripts.items():
            file = folder / name.replace("_", "-")
            file.write_text(f"#!/bin/sh\nPATH=/bin:/usr/bin\n{script}\n")
            file.chmod(0o755)

    return put

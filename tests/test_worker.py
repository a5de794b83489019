"""What a worker's death says: how its process ended and, where an exception ended it, the traceback."""

import pytest

from pathssl.worker import Worker, WorkerDied

FUNCTIONS = """
import logging, os
def raises(connection):
    connection.send(connection.recv())
    logging.getLogger("here").warning("about to fail")
    1 / 0
def killed(connection):
    os.kill(os.getpid(), 9)
def gone(connection):
    raise EOFError
"""


@pytest.fixture
def functions(tmp_path, monkeypatch):
    """The functions above, where workers find them."""
    (tmp_path / "functions.py").write_text(FUNCTIONS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


def until_death(name: str) -> tuple[list, WorkerDied]:
    """What a worker that runs this function answers to 7, and its death."""
    worker, heard = Worker(f"functions:{name}"), []
    try:
        worker.send(7)
        with pytest.raises(WorkerDied) as death:
            while worker.connection.poll(30):
                heard += worker.answers()
    finally:
        worker.kill()
    return heard, death.value


@pytest.mark.usefixtures("functions")
def test_an_exception_comes_with_its_traceback_after_what_was_answered(caplog):
    heard, death = until_death("raises")
    assert str(death) == "exit code 1" and "about to fail" in caplog.text
    assert death.traceback.startswith("Traceback") and "ZeroDivisionError" in death.traceback
    assert heard == [7]


@pytest.mark.usefixtures("functions")
@pytest.mark.parametrize(("name", "how"), [("killed", "signal 9"), ("gone", "exit code 0"), ("absent", "exit code 1")])
def test_a_death_says_how_the_process_ended(name, how):
    _, death = until_death(name)
    assert str(death) == how and bool(death.traceback) == (name == "absent")

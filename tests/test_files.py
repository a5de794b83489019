import multiprocessing
import time

import pytest

from pathssl.errors import UserError
from pathssl.files import atomic_folder, locked, make_folder, write_atomic


def test_a_failed_block_leaves_neither_folder_nor_remains(tmp_path):
    with pytest.raises(RuntimeError), atomic_folder(tmp_path / "a") as folder:
        (folder / "half").write_text("x")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_folder_appears_whole_and_replaces_an_older_one(tmp_path):
    for content in ("old", "new"):
        with atomic_folder(tmp_path / "a") as folder:
            (folder / "file").write_text(content)
            assert (tmp_path / "a").exists() == (content == "new")
    assert (tmp_path / "a" / "file").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_write_atomic_replaces_and_leaves_no_temporary_file(tmp_path):
    write_atomic(tmp_path / "b" / "c", "1")
    write_atomic(tmp_path / "b" / "c", b"2")
    assert (tmp_path / "b" / "c").read_text() == "2"
    assert len(list((tmp_path / "b").iterdir())) == 1


def test_a_folder_is_made_once_and_never_over_a_file(tmp_path):
    for _ in range(2):
        make_folder(tmp_path / "a" / "b", "--to")
    assert (tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match=r"--to .*file is a file: name a folder"):
        make_folder(tmp_path / "file", "--to")


def _hold(path, log):
    with locked(path):
        with open(log, "a") as file:
            file.write("in ")
        time.sleep(0.3)
        with open(log, "a") as file:
            file.write("out ")


def test_a_lock_lets_one_process_in_at_a_time(tmp_path):
    processes = [
        multiprocessing.get_context("spawn").Process(target=_hold, args=(tmp_path / "l", tmp_path / "log"))
        for _ in "ab"
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert (tmp_path / "log").read_text() == "in out in out "

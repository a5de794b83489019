import time

import pytest

from pathssl.doctor import check
from pathssl.doctor.check import Check


def test_text_is_aligned_and_fits_100_columns():
    long = "a sentence that goes on " * 12
    lines = check.table([Check("one", "ok", long), Check("other", "broken", "x", long)]).splitlines()
    assert max(map(len, lines)) <= 100 and lines[-1] == "1 broken."
    found_at, remedy_at = lines[0].index("a sentence"), next(line.index("->") for line in lines if "->" in line)
    assert found_at == remedy_at and lines[1].startswith(" " * found_at + lines[1].strip()[0])


def test_within_returns_raises_or_gives_up():
    assert check.within(5, lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        check.within(5, lambda: 1 / 0)
    since = time.monotonic()
    with pytest.raises(TimeoutError, match=r"0\.1 s"):
        check.within(0.1, lambda: time.sleep(30))
    assert time.monotonic() - since < 5

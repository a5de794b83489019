"""What is refused of a config before anything is read."""

import pytest

from pathssl.checks import check_group
from pathssl.errors import UserError


def spread(kind: str, group: object) -> dict:
    return {"objective": {"spread": {"kind": kind, "group": group}}}


@pytest.mark.parametrize("group", [0, 1, -4, 2.5, "foo", True])
def test_a_group_that_is_none_is_refused(group):
    with pytest.raises(UserError, match=r"spread\.group=.* must be a whole number, at least 2"):
        check_group(spread("koleo", group), 24)


def test_a_group_must_divide_what_passes_at_a_time_where_there_is_a_spread_term():
    with pytest.raises(UserError, match=r"spread\.group=16 does not divide the 24 patches"):
        check_group(spread("kde", 16), 24)
    check_group(spread("kde", 8), 24)
    check_group(spread("none", 16), 24)
    check_group({"objective": {}}, 24)

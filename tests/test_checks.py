"""What is refused of a config before anything is read."""

from types import SimpleNamespace

import pytest

from pathssl.checks import check, check_held_out, check_passes
from pathssl.cli import compose
from pathssl.errors import UserError


def spread(kind: str, group: object) -> dict:
    return {"objective": {"head_batch_norm": False, "spread": {"kind": kind, "group": group}}}


@pytest.mark.parametrize("group", [0, 1, -4, 2.5, "foo", True])
def test_a_group_that_is_none_is_refused(group):
    with pytest.raises(UserError, match=r"spread\.group=.* must be a whole number, at least 2"):
        check_passes(spread("koleo", group), 24)


def test_a_group_must_divide_what_passes_at_a_time_where_there_is_a_spread_term():
    with pytest.raises(UserError, match=r"spread\.group=16 does not divide the 24 patches.* such as 12\."):
        check_passes(spread("kde", 16), 24)
    check_passes(spread("kde", 8), 24)
    check_passes(spread("none", 16), 24)
    check_passes({"objective": {"head_batch_norm": False}}, 24)


def test_a_batch_normalised_head_takes_the_whole_batch_at_once():
    config = {"objective": {"head_batch_norm": True}, "batch": {"size": 24}}
    check_passes(config, 24)
    with pytest.raises(UserError, match=r"head_batch_norm=true .* 12 of batch\.size=24 here"):
        check_passes(config, 12)


def test_fewer_held_out_patches_than_features_are_refused_before_anything_is_written():
    config = {"unsupervised": {"patches": 512}, "model": {"name": "vit_base_patch16_224"}}
    check_held_out(SimpleNamespace(num_features=512), config)
    with pytest.raises(
        UserError,
        match=r"unsupervised\.patches=512 is below the 768 features of vit_base.*Give unsupervised.patches=768 or more,",
    ):
        check_held_out(SimpleNamespace(num_features=768), config)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("data.rescan=sometimes", "data.rescan=sometimes must be true or false"),
        ("data.limit.seed=-1", "data.limit.seed=-1 must be a whole number"),
    ],
)
def test_what_is_said_of_slides_must_be_of_its_kind(override, says):
    with pytest.raises(UserError, match=says):
        check(compose([override]))

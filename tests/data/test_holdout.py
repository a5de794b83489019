import numpy as np
import pytest

from pathssl.data.holdout import held_out, held_out_cases
from pathssl.errors import UserError


def test_the_choice_follows_from_the_names_alone():
    cases = [f"case{i}" for i in range(20)]
    held = held_out_cases(cases, 0.2)
    assert len(held) == 4 and held == held_out_cases(cases[::-1] * 3, 0.2)


def test_most_cases_stay_where_they_are_when_some_are_added():
    held = held_out_cases([f"case{i}" for i in range(100)], 0.1)
    more = held_out_cases([f"case{i}" for i in range(105)], 0.1)
    assert len(held & more) >= 5


def test_one_case_cannot_be_held_out_and_two_give_one():
    assert held_out_cases(["a", "a"], 0.5) == set()
    assert len(held_out_cases(["a", "b"], 0.01)) == 1
    assert held_out_cases(["a", "b"], 0) == set()


def held(case: str, split: list[str], fraction=0.5, serves=None) -> list[bool]:
    return held_out(list(case), split, np.ones(len(case), bool) if serves is None else serves, fraction).tolist()


def test_what_a_split_names_is_held_out_with_its_whole_case_and_nothing_else():
    assert held("aabbcd", ["held_out", "", "", "", "train", ""]) == [True, True, False, False, False, False]


def test_where_no_split_holds_out_a_fraction_of_the_others_is():
    found = held("abcdefgh", ["train"] * 4 + [""] * 4)
    assert not any(found[:4]) and sum(found[4:]) == 2
    assert not any(held("abcd", ["train"] * 4))


def test_only_cases_that_serve_are_chosen_but_all_their_slides_are_held_out():
    serves = np.array([True, False, True, False, False, False])
    found = np.array(held("aabbcd", [""] * 6, 0.5, serves))
    assert sorted(np.unique(np.array(list("aabbcd"))[found])) in (["a"], ["b"]) and found.sum() == 2


def test_a_case_with_both_splits_is_refused():
    with pytest.raises(UserError, match="the case a both splits"):
        held("aab", ["held_out", "train", ""])

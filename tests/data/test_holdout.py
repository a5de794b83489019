from pathssl.data.holdout import held_out_cases


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

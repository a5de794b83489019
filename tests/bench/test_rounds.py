import os
import threading

import pytest

from pathssl.bench.rounds import Contender, alternate, can_pin, cores, pinned, report, table


def contender(name, speeds, order):
    def measure(number):
        order.append((number, name))
        return speeds[number]

    return Contender(name, "as set", "things/s", measure)


def test_all_are_measured_once_a_round_and_each_round_begins_with_another():
    order = []
    alternate([contender(name, [1.0] * 3, order) for name in "abc"], 3)
    assert "".join(name for _, name in order) == "abcbcacab"
    assert [number for number, _ in order] == [0] * 3 + [1] * 3 + [2] * 3


def test_a_ratio_is_the_median_of_the_rounds_ratios_and_a_row_holds_median_and_extremes():
    fast, slow = [10.0, 40.0, 12.0], [5.0, 10.0, 4.0]  # the machine was four times as fast in the second round
    figures = alternate([contender("fast", fast, []), contender("slow", slow, [])], 3)
    assert figures.ratio("fast", "slow") == 3.0
    assert figures.ratio("fast", "nobody") is None
    row = {"name": "fast", "setting": "as set", "value": 12.0, "unit": "things/s", "min": 10.0, "max": 40.0}
    assert figures.rows()[0] == row


def test_the_answer_has_the_promised_keys_and_leaves_out_what_was_not_measured():
    figures = alternate([contender("fast", [10.0], []), contender("slow", [5.0], [])], 1)
    answer = report("thing", figures, {"a/b": figures.ratio("fast", "slow"), "a/c": None}, {"c": "not installed"})
    assert {"what", "machine", "rows", "ratios", "missing"} <= set(answer) and answer["ratios"] == {"a/b": 2.0}
    assert {"cpu", "cpu_cores", "gpus", "packages"} <= set(answer["machine"])
    text = table(answer, ["Do this."])
    assert "2.00 x" in text and "not measured: c: not installed" in text and text.endswith("Do this.")


@pytest.mark.skipif(not can_pin(), reason="this system cannot pin threads")
def test_pinning_holds_for_threads_that_exist_already_and_ends():
    release, seen = threading.Event(), []
    thread = threading.Thread(target=lambda: (release.wait(), seen.append(os.sched_getaffinity(0))))
    thread.start()
    before, one = os.sched_getaffinity(0), cores(1)
    with pinned(one):
        assert os.sched_getaffinity(0) == set(one)
        release.set()
        thread.join()
    assert seen == [set(one)] and os.sched_getaffinity(0) == before


def test_more_cores_than_there_are_cannot_be_had():
    assert cores(100_000) is None

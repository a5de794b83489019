import shutil

import numpy as np
import pytest
import yaml
from fake_study import ACCURACY, DEMO, write_study
from scipy import stats

from pathssl import probe_records, records
from pathssl.report import comparison
from pathssl.report.statistics import detectable
from pathssl.report.study import read_study

ARMS = {"teacher=m0.9": 0.0, "teacher=m0.99": 0.012}


def compared(folder, key=ACCURACY):
    study = read_study(folder)
    return study, comparison.compare(study, key, comparison.choose_reading(study))


def rewrite(run, step, value, key="linear/test/balanced_accuracy"):
    probe_records.write_probe(run, step=step, patches_seen=step * 64, task="synthetic", results={key: value})


def values_by_hand(folder, step):
    found = {}
    for run in records.find_runs(folder):
        rows = {row["step"]: row for row in probe_records.read_rows(run)}
        found.setdefault(records.arm_of(run), []).append(rows[step][ACCURACY])
    return {arm: np.array(values) for arm, values in found.items()}


def test_the_table_holds_last_values_step_0_gains_and_the_difference_to_the_baseline(tmp_path):
    folder = write_study(tmp_path / "demo", ARMS, seeds=3, report=DEMO)
    last, null = values_by_hand(folder, 200), values_by_hand(folder, 0)
    _, table = compared(folder)
    base, other = table.rows
    assert [row.arm for row in table.rows] == list(ARMS)
    for row in table.rows:
        assert row.last.value == pytest.approx(last[row.arm].mean())
        assert row.step0 == pytest.approx(null[row.arm].mean())
        assert row.gain.value == pytest.approx((last[row.arm] - null[row.arm]).mean())
    assert base.difference is None
    assert other.difference.value == pytest.approx(last[other.arm].mean() - last[base.arm].mean())
    assert table.spread.df == 4


def test_runs_that_did_not_finish_are_left_out_once_any_has(tmp_path):
    folder = write_study(tmp_path / "demo", ARMS, seeds=2, report=DEMO)
    status = {"total_steps": 200, "patches_seen": 6400, "host": None, "job_id": None}
    records.write_status(folder / "teacher=m0.99/seed1", "failed", step=100, error="x", **status)
    study, table = compared(folder)
    assert [len(row.values) for row in table.rows] == [2, 1]
    assert "1 run that did not finish is left out" in comparison.choose_reading(study).sentence


def test_while_no_run_has_finished_all_are_read_where_all_have_been(tmp_path):
    folder = write_study(tmp_path / "demo", ARMS, seeds=2, report=DEMO)
    status = {"total_steps": 200, "patches_seen": 6400, "host": None, "job_id": None, "error": None}
    for run in records.find_runs(folder):
        records.write_status(run, "running", step=100, **status)
    slow = folder / "teacher=m0.9/seed0"
    records.cut_metrics(slow, 100)
    for probe in (slow / "probes").glob("step_*/*.json"):
        if probe.parent.name > "step_00000100":
            probe.unlink()
    study, table = compared(folder)
    reading = comparison.choose_reading(study)
    assert reading.provisional
    assert reading.patches == [6400] * 4
    by_hand = values_by_hand(folder, 100)
    assert table.rows[1].last.value == pytest.approx(by_hand["teacher=m0.99"].mean())


def test_a_metric_that_the_last_checkpoint_lacks_is_missing_and_not_taken_from_an_earlier_one(tmp_path):
    folder = write_study(tmp_path / "demo", ARMS, seeds=2, report=DEMO)
    rewrite(folder / "teacher=m0.9/seed0", 200, float("nan"))
    _, table = compared(folder)
    assert [len(row.values) for row in table.rows] == [1, 2]


@pytest.mark.parametrize(
    ("values", "outcome", "ending"),
    [
        ([(0.70, 0.71), (0.80, 0.81)], "higher", "teacher=m0.99 is higher"),
        ([(0.70, 0.71), (0.60, 0.61)], "lower", "teacher=m0.99 is lower"),
        ([(0.70, 0.80), (0.71, 0.83)], "same", "cannot be told apart"),
        ([(0.70, 0.70), (0.80, 0.80)], "open", "the seeds agree exactly, which gives no interval, so no verdict"),
    ],
)
def test_verdicts_follow_from_the_interval(tmp_path, values, outcome, ending):
    folder = write_study(tmp_path / "demo", ARMS, seeds=2, report=DEMO)
    for arm, pair in zip(ARMS, values, strict=True):
        for seed, value in enumerate(pair):
            rewrite(folder / arm / f"seed{seed}", 200, value)
    _, table = compared(folder)
    [verdict] = comparison.verdicts(table)
    assert (verdict.outcome, verdict.ending) == (outcome, ending)
    assert verdict.sentence.startswith("teacher=m0.99 − teacher=m0.9: ")
    assert verdict.sentence.endswith(ending)


def test_the_verdict_gives_difference_interval_and_their_source(tmp_path):
    folder = write_study(tmp_path / "demo", ARMS, seeds=2, report=DEMO)
    for arm, pair in zip(ARMS, [(0.70, 0.80), (0.71, 0.83)], strict=True):
        for seed, value in enumerate(pair):
            rewrite(folder / arm / f"seed{seed}", 200, value)
    study, table = compared(folder)
    # s^2 = (0.005 + 0.0072) / 2, half width t(0.975, 2) s = 4.302653 * 0.0781025 = 0.33605
    # p: with 2 degrees of freedom 1 - t / sqrt(2 + t^2), of t = 0.02 / 0.0781025
    sentence = "teacher=m0.99 − teacher=m0.9: +0.020 [−0.316, +0.356] (95 %, Student t over 2 seeds, pooled; p = 0.82)"
    answers = comparison.verdicts(table)
    assert answers[0].sentence == f"{sentence}: cannot be told apart"
    headline = "teacher=m0.99 and teacher=m0.9 cannot be told apart in balanced accuracy."
    assert comparison.headline(study, answers) == headline
    assert "± 0.336, which is 4.3 standard deviations" in comparison.reach(table)


def test_one_seed_in_each_arm_gives_no_verdict(tmp_path):
    study, table = compared(write_study(tmp_path / "demo", ARMS, seeds=1, report=DEMO))
    answers = comparison.verdicts(table)
    assert answers[0].outcome == "open"
    assert comparison.headline(study, answers).startswith("No verdict yet on balanced accuracy: one seed")


def test_many_arms_are_counted_in_the_headline(tmp_path):
    arms = {f"teacher=m0.{k}": effect for k, effect in enumerate((0.0, 0.2, 0.3, -0.2, 0.0), start=1)}
    folder = write_study(tmp_path / "s", arms, seeds=2, report=DEMO | {"baseline": "teacher=m0.1"}, noise=0.0)
    study, table = compared(folder)
    answers = comparison.verdicts(table)
    expected = "3 of 4 arms can be told apart from teacher=m0.1 in balanced accuracy: 2 higher, 1 lower."
    assert comparison.headline(study, answers) == expected


def test_what_alone_would_be_found_may_not_be_among_several(tmp_path):
    arms = {f"teacher=m0.{k}": 0.0 for k in (9, 99, 995, 996)}
    folder = write_study(tmp_path / "demo", arms, seeds=3, report=DEMO)
    means = (0.700, 0.700, 0.700, 0.7235)
    for arm, mean in zip(arms, means, strict=True):
        for seed, shift in enumerate((-0.01, 0.0, 0.01)):
            rewrite(folder / arm / f"seed{seed}", 200, mean + shift)
    study = read_study(folder)
    (primary, *others) = comparison.compare_all(study, comparison.choose_reading(study))
    # s = 0.01, so t = 0.0235 / (0.01 sqrt(2 / 3)) = 2.878 with 8 degrees of freedom: p 0.0206, which times 3 is above 0.05.
    (answer,) = [one for one in comparison.verdicts(primary) if one.arm == "teacher=m0.996"]
    assert answer.difference.low > 0 and answer.outcome == "same"
    assert answer.difference.p == pytest.approx(0.0206, abs=1e-4)
    assert answer.difference.adjusted == pytest.approx(3 * answer.difference.p)
    assert answer.sentence.endswith("p = 0.062 by Holm among 3 differences): cannot be told apart among 3 differences")
    assert all(row.difference.adjusted is None for one in others for row in one.rows if row.difference)
    asked = DEMO | {"family": [ACCURACY, "unsupervised/rankme"]}
    folder = write_study(tmp_path / "two", arms, seeds=3, report=asked)
    study = read_study(folder)
    compared = comparison.compare_all(study, comparison.choose_reading(study))
    families = {one.key: {row.difference.family for row in one.rows if row.difference} for one in compared}
    assert families[ACCURACY] == families["unsupervised/rankme"] == {6}


def untrained(folder, arm, values, init=None):
    """Makes an arm's runs runs of zero patches, with these values."""
    for run, value in zip(records.find_runs(folder / arm), values, strict=True):
        config = yaml.safe_load((run / "config.yaml").read_text())
        (run / "config.yaml").write_text(yaml.safe_dump(config | {"train": {"patches": 0}, "init": init or {}}))
        records.cut_metrics(run, 0)
        for probe in (run / "probes").glob("step_*"):
            if probe.name != "step_00000000":
                shutil.rmtree(probe)
        rewrite(run, 0, value)


def test_arms_that_are_not_trained_have_no_gain_and_tell_nothing_of_the_noise(tmp_path):
    folder = write_study(tmp_path / "demo", ARMS | {"init=file": 0.0}, seeds=3, report=DEMO)
    alone = compared(write_study(tmp_path / "alone", ARMS, seeds=3, report=DEMO))[1].spread
    untrained(folder, "init=file", [0.7, 0.7, 0.7])  # as loaded weights are: the same for all seeds
    study, table = compared(folder)
    (row,) = [row for row in table.rows if row.arm == "init=file"]
    assert row.last.value == pytest.approx(0.7) and row.last.low is None and row.gain is None
    assert row.difference.value == pytest.approx(0.7 - table.rows[0].last.value)
    assert (table.spread.sd, table.spread.df) == (pytest.approx(alone.sd), 4) and len(table.gains) == 6
    assert "arms that are not trained at step 0" in comparison.choose_reading(study).sentence


def test_finished_arms_that_are_not_trained_do_not_make_unfinished_ones_wait_outside(tmp_path):
    folder = write_study(tmp_path / "demo", ARMS | {"init=file": 0.0}, seeds=1, report=DEMO)
    untrained(folder, "init=file", [0.7])
    status = {"total_steps": 200, "patches_seen": 6400, "host": None, "job_id": None, "error": None}
    for arm in ARMS:
        records.write_status(folder / arm / "seed0", "running", step=100, **status)
    reading = comparison.choose_reading(read_study(folder))
    assert reading.provisional and len(reading.runs) == 3 and "no run that trains has finished" in reading.sentence
    assert sorted(reading.patches) == [0, 12800, 12800]


@pytest.fixture
def beside_untrained(tmp_path):
    """Two trained arms of three seeds, and, not trained, the baseline with published weights and two others of one value each."""
    arms = ARMS | {"init=timm": 0.0, "init=file": 0.0, "init=random": 0.0}
    report = DEMO | {"baseline": "init=timm"}
    folder = write_study(tmp_path / "demo", arms, seeds=3, report=report, checkpoints=1, pictures=False)
    for arm, value in (("init=timm", 0.7), ("init=file", 0.4), ("init=random", 0.5)):
        untrained(folder, arm, [value] * 3, {"init=timm": {"pretrained": True}, "init=file": {"path": "x"}}.get(arm))
    return folder


def test_between_arms_that_are_not_trained_there_is_no_verdict(beside_untrained):
    study, table = compared(beside_untrained)
    told = {verdict.arm: verdict for verdict in comparison.verdicts(table)}
    for arm in ("init=file", "init=random"):
        found = told[arm].difference
        assert (told[arm].outcome, found.low, found.p) == ("open", None, None)
        assert told[arm].ending == "nothing is trained, so seeds say nothing, so no verdict"
    family = comparison.compare_all(study, comparison.choose_reading(study))[0]
    assert [row.difference.family for row in family.rows if row.arm in ARMS] == [2, 2]  # the others do not count
    assert "of 2 arms" in comparison.headline(study, comparison.verdicts(family))
    for arm in ARMS:
        shutil.rmtree(beside_untrained / arm)
    study, table = compared(beside_untrained)
    assert comparison.why_no_interval(table) == "nothing is trained, so seeds say nothing"
    assert "nothing is trained, so seeds say nothing" in comparison.headline(study, comparison.verdicts(table))


def test_weights_that_are_not_trained_have_no_noise_of_seeds_and_random_ones_have(beside_untrained):
    _, table = compared(beside_untrained)
    half = stats.t.ppf(0.975, table.spread.df) * table.spread.sd
    row = next(row for row in table.rows if row.arm == "teacher=m0.99")
    assert row.difference.high - row.difference.value == pytest.approx(half * (1 / 3) ** 0.5)
    t = row.difference.value / (table.spread.sd * (1 / 3) ** 0.5)
    assert row.difference.p == pytest.approx(2 * stats.t.sf(abs(t), table.spread.df))
    assert comparison.minimum_detectable(table, row) == pytest.approx(detectable(1 / 3, 4) * table.spread.sd)
    for run in records.find_runs(beside_untrained):
        config = yaml.safe_load((run / "config.yaml").read_text())
        config["report"]["baseline"] = "init=random"
        (run / "config.yaml").write_text(yaml.safe_dump(config))
    _, table = compared(beside_untrained)
    row = next(row for row in table.rows if row.arm == "teacher=m0.99")
    assert row.difference.high - row.difference.value == pytest.approx(half * (1 / 3 + 1 / 3) ** 0.5)

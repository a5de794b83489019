"""The seeds' noise, and the seeds that a difference needs: against a simulation, and as the verb prints it."""

import json

import numpy as np
import pytest
from fake_study import ACCURACY, DEMO, write_study
from programs import pathssl
from scipy import stats

from pathssl import probe_records, records
from pathssl.errors import UserError
from pathssl.report.noise import measure_noise
from pathssl.report.statistics import Spread, detectable, power_of, sd_interval, seeds_needed, two_arms


def test_power_is_how_often_the_t_test_finds_the_difference():
    rng = np.random.default_rng(0)
    a, b = rng.normal(0, 1, (20_000, 4)), rng.normal(1.5, 1, (20_000, 4))
    found = stats.ttest_ind(a, b, axis=1).pvalue < 0.05
    assert power_of(1.5, *two_arms(4)) == pytest.approx(found.mean(), abs=0.01)


def test_as_many_seeds_as_are_needed_are_enough_and_one_less_is_not():
    for effect in (0.5, 1.0, 2.0):
        n = seeds_needed(effect)
        assert power_of(effect, *two_arms(n)) >= 0.8 > power_of(effect, *two_arms(n - 1))
        assert detectable(*two_arms(n)) <= effect < detectable(*two_arms(n - 1))
    assert seeds_needed(1.0) == 17  # Cohen's table
    assert seeds_needed(0.01) is None


@pytest.mark.slow
def test_the_interval_of_the_sd_covers_it():
    rng = np.random.default_rng(1)
    bounds = [sd_interval(Spread(float(np.std(rng.normal(0, 2, 5), ddof=1)), 4), 0.95) for _ in range(4000)]
    assert np.mean([low <= 2 <= high for low, high in bounds]) == pytest.approx(0.95, abs=0.015)


@pytest.fixture
def study(tmp_path):
    return write_study(tmp_path / "demo", {"teacher=m0.9": 0.0, "teacher=m0.99": 0.02}, seeds=3, report=DEMO)


def test_the_noise_of_a_study_is_its_pooled_sd(study):
    found = {noise.key: noise for noise in measure_noise(study, [], [0.01])}
    noise = found[ACCURACY]
    values = [
        [probe_records.read_rows(run)[-1][ACCURACY] for run in records.find_runs(study / arm)]
        for arm in ("teacher=m0.9", "teacher=m0.99")
    ]
    sd = np.mean([np.var(of, ddof=1) for of in values]) ** 0.5
    assert noise.spread.sd == pytest.approx(sd) and noise.spread.df == 4 and noise.low < sd < noise.high
    assert noise.detectable[5] == pytest.approx(detectable(*two_arms(5)) * sd) and noise.needed[0.01] == seeds_needed(
        0.01 / sd
    )
    assert noise.probe_sd is None


def test_a_protocols_own_runs_are_told_apart_from_seeds(study):
    run = records.find_runs(study)[0]
    probe = probe_records.read_probes(run)[-1]
    fields = {key: probe[key] for key in ("step", "patches_seen", "task", "results")}
    probe_records.write_probe(run, **fields, predictions={"linear_runs_test_balanced_accuracy": np.array([0.7, 0.8])})
    (noise,) = measure_noise(study, [ACCURACY], [])
    assert noise.probe_sd == pytest.approx(np.std([0.7, 0.8], ddof=1))


def test_as_it_is_typed(study, tmp_path):
    done = pathssl("noise", str(study), "--metric", ACCURACY, "--difference", "0.02", cwd=tmp_path)
    assert (
        done.returncode == 0 and "4 degrees of freedom" in done.stdout and "a difference of 0.02 needs" in done.stdout
    )
    answer = json.loads(pathssl("noise", str(study), "--json", cwd=tmp_path).stdout)
    assert answer["metrics"][0]["key"] == ACCURACY and set(answer["metrics"][0]["detectable"]) == {"3", "5", "10"}


def test_mistakes_are_answered_in_a_sentence(study):
    with pytest.raises(UserError, match="probe/nothing was measured in no run"):
        measure_noise(study, ["probe/nothing"], [])
    with pytest.raises(UserError, match="--difference -1"):
        measure_noise(study, [], [-1])

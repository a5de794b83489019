import numpy as np
import pytest
from fake_study import ACCURACY, write_study
from scipy import stats

from pathssl.report.comparison import choose_reading, compare
from pathssl.report.curves import POINTS, curves, thinned
from pathssl.report.study import Series, read_study


def test_short_curves_keep_their_points_and_their_mean_is_taken_at_each(tmp_path):
    study = read_study(write_study(tmp_path / "demo", {"a=1": 0.0}, seeds=3))
    [curve] = curves(study, ACCURACY, study.runs)
    values = np.array([run.series[ACCURACY].values for run in study.runs])
    assert curve.averaged == 3
    assert curve.mean.x.tolist() == study.runs[0].series[ACCURACY].patches.tolist()
    assert curve.mean.y == pytest.approx(values.mean(axis=0))


def test_a_band_ends_in_the_interval_of_the_table_and_is_students_t_at_every_point(tmp_path):
    study = read_study(write_study(tmp_path / "demo", {"a=1": 0.0, "a=2": 0.1}, seeds=3))
    found = curves(study, ACCURACY, study.runs)
    rows = compare(study, ACCURACY, choose_reading(study)).rows
    assert [(c.band.low[-1], c.band.high[-1]) for c in found] == [(r.last.low, r.last.high) for r in rows]
    first, second = (
        np.array([run.series[ACCURACY].values for run in study.of(arm)]).T for arm in study.arms
    )  # (points, seeds)
    sd = np.sqrt((first.var(axis=1, ddof=1) + second.var(axis=1, ddof=1)) / 2)
    half = stats.t.ppf(0.975, 4) * sd / np.sqrt(3)
    assert found[1].band.low == pytest.approx(second.mean(axis=1) - half)
    assert found[1].band.high == pytest.approx(second.mean(axis=1) + half)


def test_there_is_no_band_where_one_seed_or_seeds_that_agree_say_nothing_of_the_noise(tmp_path):
    one = read_study(write_study(tmp_path / "one", {"a=1": 0.0, "a=2": 0.0}, seeds=1))
    assert [curve.band for curve in curves(one, ACCURACY, one.runs)] == [None, None]
    same = read_study(write_study(tmp_path / "same", {"a=1": 0.0}, seeds=2))
    for run in same.runs:
        run.series[ACCURACY].values[0] = 0.6  # as where both begin with given weights
    [curve] = curves(same, ACCURACY, same.runs)
    assert np.isnan(curve.band.low).tolist() == [True, False, False, False, False]


def test_long_curves_are_thinned_to_bin_means_that_keep_the_overall_mean():
    patches = np.arange(10_000.0)
    series = Series(patches, np.sin(patches / 1000))
    line = thinned(series, np.linspace(0, 9_999, POINTS + 1)[1:-1])
    assert len(line.x) == POINTS
    assert line.y.mean() == pytest.approx(series.values.mean(), abs=1e-3)
    assert line.y == pytest.approx(np.sin(line.x / 1000), abs=1e-3)


def test_the_mean_is_over_the_compared_runs_where_all_have_a_value(tmp_path):
    study = read_study(write_study(tmp_path / "demo", {"a=1": 0.0}, seeds=2))
    first, second = study.runs
    short = first.series[ACCURACY]
    first.series[ACCURACY] = Series(short.patches[:3], short.values[:3])
    [both] = curves(study, ACCURACY, study.runs)
    assert both.mean.x.tolist() == short.patches[:3].tolist()
    [one] = curves(study, ACCURACY, [second])
    assert (one.averaged, len(one.seeds)) == (1, 2)
    assert one.mean.y.tolist() == second.series[ACCURACY].values.tolist()

import numpy as np
import pytest
from fake_study import ACCURACY, write_study

from pathssl.report.curves import POINTS, curves, thinned
from pathssl.report.study import Series, read_study


def test_short_curves_keep_their_points_and_their_mean_is_taken_at_each(tmp_path):
    study = read_study(write_study(tmp_path / "demo", {"a=1": 0.0}, seeds=3))
    [curve] = curves(study, ACCURACY, study.runs)
    values = np.array([run.series[ACCURACY].values for run in study.runs])
    assert curve.averaged == 3
    assert curve.mean.x.tolist() == study.runs[0].series[ACCURACY].patches.tolist()
    assert curve.mean.y == pytest.approx(values.mean(axis=0))


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

import pytest

from pathssl.errors import UserError
from pathssl.records import append_metrics
from pathssl.training.retention import Retention

KEY = "probe/synthetic/linear/val/balanced_accuracy"


def test_every_nth_scheduled_checkpoint_stays_and_no_other(tmp_path):
    keep = Retention(tmp_path, {0, 10, 20, 30, 40}, every=2, best=None)
    assert keep([0, 10, 17, 20, 30]) == [0, 20]


def test_the_best_by_a_metric_stays_too(tmp_path):
    for step, score in {0: 0.3, 10: 0.8, 20: 0.5, 30: 0.8}.items():
        append_metrics(tmp_path, {"step": step, "patches_seen": step, KEY: score})
    keep = Retention(tmp_path, {0, 10, 20, 30}, every=100, best=KEY)
    assert sorted({*keep([0, 10, 20, 30])}) == [0, 10]  # of equals, the first


def test_the_best_is_the_lowest_where_less_is_better_and_not_the_one_before_training(tmp_path):
    for step, odcorr in {0: 0.1, 10: 0.8, 20: 0.3, 30: 0.5}.items():
        append_metrics(tmp_path, {"step": step, "patches_seen": step, "unsupervised/odcorr": odcorr})
    keep = Retention(tmp_path, {0, 10, 20, 30}, every=100, best="unsupervised/odcorr")
    assert sorted({*keep([0, 10, 20, 30])}) == [0, 20]


def test_what_has_no_better_end_chooses_nothing(tmp_path):
    with pytest.raises(UserError, match="keep_best=unsupervised/apart describes"):
        Retention(tmp_path, {0, 10}, every=1, best="unsupervised/apart")


def test_a_metric_that_the_run_does_not_have_is_refused_with_those_it_has(tmp_path):
    append_metrics(tmp_path, {"step": 0, "patches_seen": 0, KEY: 0.3})
    with pytest.raises(UserError, match=f"keep_best=probe/other.*{KEY}"):
        Retention(tmp_path, {0, 10}, every=1, best="probe/other")([0])

import pytest

from pathssl import metric_keys


@pytest.mark.parametrize(
    ("key", "higher"),
    [
        ("probe/bach/linear/test/balanced_accuracy", True),
        ("probe/consep/seg_conv/val/dice", True),
        ("unsupervised/rankme", True),
        ("train/loss", False),
        ("train/patches_per_s", True),
        ("unsupervised/odcorr", False),
        ("unsupervised/stain_distance_0.05", False),
        ("unsupervised/site_balanced_accuracy", False),
        ("probe/bach/linear/test/stain_flips_0.05", False),
    ],
)
def test_it_is_known_of_each_metric_whether_more_is_better(key, higher):
    assert metric_keys.higher_is_better(key) is higher


def test_what_describes_has_no_better_end():
    unsupervised = ("apart", "site_chance", "rankme", "odcorr")
    assert [key for key in unsupervised if metric_keys.descriptive(f"unsupervised/{key}")] == ["apart", "site_chance"]

"""The site is told from cases that were not seen, or the number is left out and that is said."""

import logging

import numpy as np
import pytest

from pathssl.errors import UserError
from pathssl.probes.site import SiteTest


def owners(cases_per_site: dict[str, int], patches: int = 20):
    pairs = [(f"{site}_{k}", site) for site, n in cases_per_site.items() for k in range(n) for _ in range(patches)]
    return [case for case, _ in pairs], [site for _, site in pairs]


def site_test(cases, sites, folds=5, c=0.01):
    return SiteTest(cases, sites, folds=folds, c=c)


def features(sites, cases, *, of_site=0.0, of_case=0.0, d=16, seed=0):
    """Noise with a direction of its own for each site and each case."""
    rng = np.random.default_rng(seed)
    made = rng.normal(size=(len(sites), d))
    for names, size in ((sites, of_site), (cases, of_case)):
        for name in sorted(set(names)):
            made[np.array(names) == name] += size * rng.normal(size=d)
    return made.astype(np.float32)


def test_sites_that_leave_a_mark_are_told_and_others_are_not():
    cases, sites = owners({"a": 4, "b": 3, "c": 5})
    test = site_test(cases, sites)
    marked = test.measure(features(sites, cases, of_site=2))
    assert marked["unsupervised/site_balanced_accuracy"] > 0.95
    assert marked["unsupervised/site_chance"] == pytest.approx(1 / 3)
    plain = test.measure(features(sites, cases))
    assert abs(plain["unsupervised/site_balanced_accuracy"] - 1 / 3) < 0.12


def test_knowing_a_case_is_not_knowing_its_site():
    """Each case has a mark of its own and none of its site: patches of the same case on both sides would give it away."""
    cases, sites = owners({"a": 4, "b": 4}, patches=30)
    made = [features(sites, cases, of_case=3, seed=seed) for seed in range(8)]
    found = [site_test(cases, sites).measure(each)["unsupervised/site_balanced_accuracy"] for each in made]
    assert np.mean(found) < 0.7


def test_every_patch_of_a_tested_site_is_predicted_once_by_a_model_that_has_not_seen_its_case():
    cases, sites = owners({"a": 4, "b": 3, "c": 1})
    test = site_test(cases, sites)
    assert test.folds == 3 and list(test.tested) == ["a", "b"]
    by_case = {case: set(test.fold_N[np.array(cases) == case]) for case in set(cases)}
    assert all(len(folds) == 1 for folds in by_case.values()) and by_case["c_0"] == {-1}
    for site in ("a", "b"):
        assert {fold for case, (fold,) in by_case.items() if case.startswith(site)} == {0, 1, 2}
    assert site_test(cases, sites, folds=2).folds == 2


def test_a_case_of_two_sites_and_sites_without_a_name_take_no_part():
    cases, sites = owners({"a": 3, "b": 3, "unknown": 4})
    cases = ["a_0" if case == "b_0" else case for case in cases]
    test = site_test(cases, sites)
    assert test.tested == {"a": ["a_1", "a_2"], "b": ["b_1", "b_2"]}


def test_where_it_cannot_be_tested_it_is_left_out_with_a_sentence(caplog):
    with caplog.at_level(logging.INFO):
        cases, sites = owners({"a": 5, "b": 1, "c": 1})
        assert site_test(cases, sites).measure(features(sites, cases)) == {}
    assert "left out: 1 of 3 known sites have two held-out cases" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO):
        site_test(*owners({"a": 2, "b": 2}))
    assert "on 2 of 2 sites with 4 cases, in 2 folds of whole cases: chance is 0.500" in caplog.text


@pytest.mark.parametrize("wrong", [{"folds": 1}, {"c": 0}])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(UserError, match="robustness"):
        site_test(*owners({"a": 2, "b": 2}), **wrong)

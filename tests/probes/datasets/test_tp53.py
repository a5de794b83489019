"""Slides with the label of their case: which are used, how they are split, and what is said of those that are not."""

import logging

import numpy as np
import pandas as pd
import pytest
from miniatures_tp53 import tcga, write_labels

from pathssl.errors import UserError
from pathssl.probes.datasets.tp53 import split_cases, tp53_task

FOREGROUND = {"method": "otsu", "thumbnail_mpp": 8.0, "cell_um": 32.0, "min_tissue": 0.4}
FRACTIONS = {"train": 0.6, "val": 0.2, "test": 0.2}


@pytest.fixture(scope="module")
def slides(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tcga") / "slides"
    return folder, tcga(folder)


@pytest.fixture
def build(slides, tmp_path):
    """build(rows, header, **settings): the task with these rows of labels."""
    folder, cases = slides

    def made(rows=None, header="case,label", **settings):
        rows = [(case, ("wild", "mutated")[k % 2]) for k, case in enumerate(cases)] if rows is None else rows
        known = {"path": str(folder), "manifest": None, "kind": "ffpe", "rescan": False, "split_by": "case", "seed": 0}
        known |= {"fractions": FRACTIONS, "mpp": 1.0, "patches": 3, "image_px": 32, "val_fraction": 0.2, "cache_mib": 1}
        known |= {"reader": "auto", "foreground": FOREGROUND, "cache": folder.parent / "index"}
        return tp53_task(labels=str(write_labels(tmp_path / "labels.csv", rows, header)), **known | settings)

    return made


def test_every_slide_has_the_label_of_its_case_and_cases_are_the_groups(build, slides):
    task = build()
    assert task.classes == ("mutated", "wild") and len(np.unique(task.bags_N)) == 12 + 4 and len(task) == 16 * 3
    case_N = [name.rsplit("/", 1)[1][:12] for name in task.bags_N]
    assert task.groups_N.tolist() == case_N
    numbers = {case: k for k, case in enumerate(slides[1])}
    assert task.labels_N.tolist() == [1 - numbers[case] % 2 for case in case_N]
    assert task.describe()["images"]["seen_mpp"] == [1.0, 1.0]
    features = task.feature_set(np.arange(48, dtype=np.float32)[:, None])
    assert [len(bag) for bag in features.test.bags] == [3] * len(features.test)
    assert next(task.batches(5)).shape == (5, 32, 32, 3)
    counted = {name: sum(label == "wild" for label in of) for name, of in _cases(task).items()}
    assert counted == {"train": 4, "val": 1, "test": 1}  # of six: 3.6, 1.2, 1.2, rounded at the borders


def _cases(task):
    """The labels of each split's cases."""
    pairs = {
        (split, case): task.classes[k]
        for split, case, k in zip(task.splits_N, task.groups_N, task.labels_N, strict=True)
    }
    return {name: [label for (split, _), label in pairs.items() if split == name] for name in ("train", "val", "test")}


def test_splits_may_be_given_and_barcodes_may_be_of_samples(build, slides):
    cases = slides[1]
    rows = [
        (f"{case.lower()}-01A", ("x", "y")[k % 2], ("train", "test", "valid")[k // 2 % 3])
        for k, case in enumerate(cases)
    ]
    task = build(rows, "case,label,split")
    of = dict(zip(task.groups_N, task.splits_N, strict=True))
    assert [of[case] for case in cases] == ["train", "train", "test", "test", "val", "val"] * 2


def test_what_is_left_out_is_counted_and_told(build, slides, caplog):
    cases = slides[1]
    rows = [(case, ("a", "b")[k % 2]) for k, case in enumerate(cases[1:])]
    with caplog.at_level(logging.WARNING):
        task = build([*rows, ("TCGA-ZZ-0001", "a"), ("TCGA-ZZ-0002", "b")])
    assert len(np.unique(task.bags_N)) == 14  # the first case has two
    assert f"2 slides have no label for their case and are left out: {cases[0]}." in caplog.text
    assert "2 cases have a label and no slide: TCGA-ZZ-0001, TCGA-ZZ-0002." in caplog.text


def test_what_is_wrong_is_named(build, slides, tmp_path):
    cases = slides[1]
    with pytest.raises(UserError, match=r"none of its 2 cases \(TCGA-ZZ-0001, TCGA-ZZ-0002\) has a slide"):
        build([("TCGA-ZZ-0001", "a"), ("TCGA-ZZ-0002", "b")])
    with pytest.raises(UserError, match=f"case {cases[0]} has two labels or splits"):
        build([(cases[0], "a"), (f"{cases[0]}-01A", "b")])
    with pytest.raises(UserError, match="split_by=patient is not one of case, site"):
        build(split_by="patient")
    with pytest.raises(UserError, match="whose sum is 1"):
        build(fractions={"train": 0.6, "val": 0.2, "test": 0.3})
    with pytest.raises(UserError, match="2 cases of 1 sites are too few to be split by case: val"):
        build([(cases[0], "a"), (cases[1], "b")])
    for settings, says in (
        ({"fractions": None}, "fractions=null: give shares"),
        ({"fractions": FRACTIONS | {"train": "x"}}, "fractions=.*'x'.*: give shares"),
        ({"fractions": FRACTIONS | {"train": 0.8, "more": -0.2}}, "give shares"),
        ({"seed": "x"}, "seed=x: give a whole number"),
        ({"mpp": None}, "mpp=null: give um per pixel"),
        ({"mpp": "fine"}, "mpp=fine: give um per pixel"),
        ({"patches": "all"}, "patches=all: give a whole number"),
        ({"path": None}, "path=null: give a path"),
    ):
        with pytest.raises(UserError, match=says):
            build(**settings)
    with pytest.raises(UserError, match=r"every slide is too coarse for mpp=0\.25"):
        build(mpp=0.25)
    with pytest.raises(UserError, match="is frozen by its barcode"):
        build(kind="frozen")
    (tmp_path / "labels.csv").unlink()
    with pytest.raises(UserError, match=r"labels\.csv is not there: .*case .*label.*cbioportal"):
        tp53_task(labels=str(tmp_path / "labels.csv"), **dict.fromkeys(
            ("path", "manifest", "kind", "rescan", "split_by", "fractions", "seed", "mpp", "reader", "foreground", "cache")))  # fmt: skip


@pytest.fixture
def many():
    """Labels of 600 cases, of which a third are mutated, and their sites: 30 of different sizes."""
    rng = np.random.default_rng(0)
    cases = [f"TCGA-{k:02d}-{n:04d}" for k in range(30) for n in range(4 + k)][:600]
    labels = pd.Series(np.where(rng.random(len(cases)) < 1 / 3, "mutated", "wild"), index=cases)
    return labels, pd.Index([case[5:7] for case in cases])


def shares(labels, made):
    return pd.crosstab(made, labels, normalize="columns").loc[["train", "val", "test"]].to_numpy()


def test_each_label_is_split_by_its_fractions_and_order_does_not_matter(many):
    labels, sites = many
    made = split_cases(labels, sites, FRACTIONS, 0, "case", "")
    assert abs(shares(labels, made) - [[0.6], [0.2], [0.2]]).max() < 0.01
    turned = split_cases(labels[::-1], sites[::-1], FRACTIONS, 0, "case", "")
    assert turned.to_dict() == made.to_dict()
    assert split_cases(labels, sites, FRACTIONS, 1, "case", "").to_dict() != made.to_dict()


def test_whole_sites_go_to_one_split_each(many):
    labels, sites = many
    made = split_cases(labels, sites, FRACTIONS, 0, "site", "")
    assert pd.Series(made.to_numpy()).groupby(sites).nunique().max() == 1
    assert abs(shares(labels, made) - [[0.6], [0.2], [0.2]]).max() < 0.06
    assert split_cases(labels[::-1], sites[::-1], FRACTIONS, 0, "site", "").to_dict() == made.to_dict()
    with pytest.raises(UserError, match="cases of 2 sites are too few to be split by site"):
        split_cases(labels[:9], sites[:9], FRACTIONS, 0, "site", "labels.csv")


def test_splits_that_would_lack_a_label_are_refused():
    labels = pd.Series(["rare"] * 3 + ["wild"] * 50, index=[f"case{k}" for k in range(53)])
    sites = pd.Index([f"site{k % 7}" for k in range(53)])
    with pytest.raises(
        UserError,
        match=r"x: 53 cases of 7 sites are too few to be split by case: val would have no case of label rare\. G",
    ):
        split_cases(labels, sites, FRACTIONS, 0, "case", "x")
    with pytest.raises(UserError, match=r"52 cases of 7 sites .*: test would have no case of label rare"):
        split_cases(labels[1:], sites[1:], FRACTIONS, 0, "case", "x")
    with pytest.raises(UserError, match="by site: val would have no case of label rare"):
        split_cases(labels, pd.Index(["a"] * 30 + ["b"] * 12 + ["c"] * 11), FRACTIONS, 0, "site", "x")


def test_sites_of_slides_are_those_of_their_barcodes(build):
    task = build(split_by="site")
    of = {(case[5:7], split) for case, split in zip(task.groups_N, task.splits_N, strict=True)}
    assert len(of) == 4

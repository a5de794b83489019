"""The real labelled set: accepted as it is, and easy for colour alone."""

from pathlib import Path

import numpy as np
import pytest

from pathssl.errors import UserError
from pathssl.probes.folder import folder_task, read_labels
from pathssl.probes.linear import Linear
from pathssl.probes.null import colour_histogram
from pathssl.probes.splits import check_groups

FOLDER = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "labelled_lc25000_lung"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"{FOLDER} is not here")
SETTINGS = {"val_fraction": 0.2, "threads": 2, "cache_mib": 0}


def test_its_split_by_group_is_accepted_and_a_split_by_image_is_not():
    task = folder_task(path=str(FOLDER), image_px=32, **SETTINGS)
    counts = {name: split["samples"] for name, split in task.describe()["splits"].items()}
    assert counts == {"train": 1768, "val": 440, "test": 751} and not task.val_taken_from_train
    table = read_labels(FOLDER / "labels.csv")
    by_image = np.where(np.arange(len(table)) % 4, "train", "test")
    with pytest.raises(UserError, match="more groups"):
        check_groups(table["group"].to_numpy(str), by_image, "labels.csv")


def test_colour_alone_scores_about_nine_tenths():
    task = folder_task(path=str(FOLDER), image_px=224, **SETTINGS)
    features = task.feature_set(colour_histogram(task.batches(64)))
    result = Linear(c_grid=[0.01, 0.1, 1, 10, 100], tolerance=1e-4, max_iterations=1000).run(features)
    assert 0.88 < result.results["test/balanced_accuracy"] < 0.94

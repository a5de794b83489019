"""For all tests: cuCIM before torch, and one thread, so that results do not depend on the machine's cores."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("WANDB_MODE", "disabled")

from pathssl.slides import cucim_reader

cucim_reader.available()  # before anything imports torch

import pytest  # noqa: E402

from pathssl.files import locked  # noqa: E402
from pathssl.slides.index import SlideIndex, build_index  # noqa: E402
from pathssl.slides.synthetic import write_cohort  # noqa: E402
from pathssl.sources import cohort_name  # noqa: E402

COHORT = {
    "seed": 0,
    "cases": 4,
    "sites": 2,
    "slide_px": 1024,
    "mpp": 0.5,
    "labelled_cases": 6,
    "patches_per_class": 4,
    "patch_px": 64,
    "patch_mpp": 0.5,
    "nuclei_fields": 1,
}
FOREGROUND = {"method": "otsu", "thumbnail_mpp": 8.0, "cell_um": 32.0, "min_tissue": 0.4}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests with a SLURM begin first, one after the other in one process, and share its cluster; the others go on beside them."""
    for item in items:
        if item.get_closest_marker("slurm"):
            item.add_marker(pytest.mark.xdist_group("slurm"))
            item.add_marker(pytest.mark.timeout(1200))
    items.sort(key=lambda item: item.get_closest_marker("slurm") is None)


@pytest.fixture(scope="session")
def cohort(tmp_path_factory):
    """A small synthetic cohort, written once for all test processes."""
    root = tmp_path_factory.getbasetemp()
    root = root.parent if os.environ.get("PYTEST_XDIST_WORKER") else root
    with locked(root / "cohort.lock"):
        folder = write_cohort(root / "cohort", **COHORT, workers=1, progress=False)
        known_as = root / "cache" / cohort_name({"_target_": "pathssl.slides.synthetic.write_cohort"} | COHORT)
        if not known_as.exists():  # so that runs find it, and do not write it once more
            known_as.parent.mkdir(exist_ok=True)
            known_as.symlink_to(folder)
    return folder


@pytest.fixture(scope="session")
def index(cohort) -> SlideIndex:
    """Its index."""
    cache = cohort.parent / "index"
    return build_index(
        cohort, cache=cache, manifest=cohort / "manifest.csv", reader="auto", **FOREGROUND, workers=0, progress=False
    )


@pytest.fixture
def small(cohort, tmp_path) -> list[str]:
    """Overrides with which train.py takes seconds: the small cohort, a ViT of one layer, eight steps. Runs go to tmp_path/outputs."""
    cohort_settings = [
        f"{place}.cohort.{key}={value}" for place in ("data", "task.synthetic") for key, value in COHORT.items()
    ]
    return [
        *cohort_settings,
        f"cache_dir={cohort.parent / 'cache'}",
        f"output_dir={tmp_path / 'outputs'}",
        "train.patches=64",
        "batch.size=8",
        "train.checkpoint_every=0.5",
        "train.log_every=0.25",
        "unsupervised.patches=64",
        "resolution.global_px=32",
        "resolution.local_px=16",
        "resolution.patch_px=40",
        "augmentation.local_crops=2",
        "model.args.embed_dim=32",
        "model.args.depth=1",
        "model.args.num_heads=2",
        "objective.out_dim=64",
        "study=small",
    ]


@pytest.fixture(scope="session")
def slurm(tmp_path_factory):
    """The environment of a client of a SLURM, started once for all tests that are marked `slurm`."""
    from slurm_cluster import started

    with started(tmp_path_factory.mktemp("slurm") / "cluster") as client:
        yield client


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A cache of the hub that holds vit_tiny_patch16_224, with random weights, and no way out."""
    import huggingface_hub
    import timm
    from safetensors.torch import save_file

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    source = timm.create_model("vit_tiny_patch16_224")
    folder = tmp_path / "models--timm--vit_tiny_patch16_224.augreg_in21k_ft_in1k"
    (folder / "snapshots" / "abc").mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("abc")
    save_file(source.state_dict(), folder / "snapshots" / "abc" / "model.safetensors")
    return source

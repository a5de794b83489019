"""A setting that nobody reads is, in an ablation, a false result: every leaf of the config is read by a run."""

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from pathssl import complaints
from pathssl.complaints import CONF
from pathssl.identity import flatten
from pathssl.run import run


class Recorded(dict):
    """A config that remembers which of its leaves were asked for by name. `items` (writing the config down) does not count."""

    def __init__(self, content: dict, prefix: str = "", read: set[str] | None = None):
        self.read = set() if read is None else read
        self.prefix = prefix
        super().__init__(
            {k: Recorded(v, f"{prefix}{k}.", self.read) if isinstance(v, dict) and v else v for k, v in content.items()}
        )

    def __getitem__(self, key):
        self.read.add(f"{self.prefix}{key}")
        return super().__getitem__(key)

    def __iter__(self):  # also keeps `**config` from copying without asking
        return super().__iter__()


def recorded(overrides) -> Recorded:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return Recorded(OmegaConf.to_container(compose("config", list(overrides)), resolve=True))


def test_the_recorder_sees_what_is_read_and_nothing_else():
    config = Recorded({"a": {"b": 1, "c": 2}, "d": 3})
    assert dict(**config["a"]) == {"b": 1, "c": 2} and config.read == {"a", "a.b", "a.c"}
    assert list(config.items()) and "d" not in config.read


PROBES = ["probe=[few_shot,slide_abmil]", "task=[synthetic_cases]", "task.synthetic_cases.tumour_patches=1"]
PROBES += ["task.synthetic_cases.slides_per_case=2", "probe.slide_abmil.epochs=2", "probe.few_shot.shots=[1]"]
DINOV2 = ["objective=dinov2", "objective.spread.group=4", "optim=adamw_dinov2", "patch_filter=hsv"]
MASKS = ["task=[synthetic_nuclei]", "probe=[seg_linear,seg_conv]", "task.synthetic_nuclei.image_px=32"]
MASKS += [f"probe.{name}.{key}=1" for name in ("seg_linear", "seg_conv") for key in ("runs", "steps", "checks")]


@pytest.mark.parametrize(
    "more",
    [[], ["logger=wandb_offline", "augmentation=dino_hed"], DINOV2, ["optim=sgd"], PROBES, MASKS],
    ids=["default", "wandb", "dinov2", "sgd", "probes", "masks"],
)
def test_every_key_of_the_config_is_read_by_a_run(small, more, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    if more is PROBES:
        small = [override.replace("task.synthetic.", "task.synthetic_cases.") for override in small]
    if more is MASKS:
        small = [override.replace("task.synthetic.", "task.synthetic_nuclei.") for override in small]
    config = recorded([*small, *more])
    assert {*config["report"]} <= {*complaints.REPORT}  # which the report reads, not the run
    leaves = {leaf for leaf in flatten(config) if not leaf.startswith("report.")}
    run(config, "default")
    unread = {leaf for leaf in leaves - config.read if not leaf.endswith("._target_")}
    assert not unread

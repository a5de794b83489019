"""Configs with which kaiko-eva 0.4.5 itself evaluates an export, for its leaderboard's own figures: its offline protocol, task by task.

The settings are those of eva's own configurations (github.com/kaiko-ai/eva, configs/vision/pathology/offline), which its package does not
hold. As there, environment variables override them.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from torch import nn

from pathssl.errors import UserError

FOLDER = "eva"  # in an export
IMAGE_PX = 224


@dataclass(frozen=True)
class EvaTask:
    """A task of eva: the class of its dataset, where eva looks for it, what eva calls its splits, and when a run without gain ends.

    test: what is reported; None: validation is, by which the run was chosen. patience: looks at validation. more: of the dataset.
    said: of a setting that is not known to be eva's, in the head of the config.
    """

    dataset: str
    root: str
    classes: int
    patience: int
    val: str = "val"
    test: str | None = None
    segmentation: bool = False
    few_shot: bool = False
    more: Mapping[str, Any] | None = None
    said: str | None = None


# eva gives patience as a fifth of the epochs, CoNSeP aside.
TASKS = {
    "bach": EvaTask("BACH", "bach", 4, 1250),
    "crc": EvaTask("CRC", "crc", 9, 7),
    "mhist": EvaTask("MHIST", "mhist", 2, 278, val="test"),
    "pcam": EvaTask("PatchCamelyon", "patch_camelyon", 2, 3, test="test"),
    "pcam_10shot": EvaTask("PatchCamelyon", "patch_camelyon", 2, 125, test="test", few_shot=True),
    "breakhis": EvaTask("BreaKHis", "breakhis", 4, 500),
    "bracs": EvaTask("BRACS", "bracs", 7, 167, test="test"),
    "gleason": EvaTask("GleasonArvaniti", "arvaniti_gleason_patches", 4, 42),
    "consep": EvaTask(
        "CoNSeP",
        "consep",
        5,
        200,
        segmentation=True,
        more={"sampler": "eva.vision.data.wsi.patching.samplers.GridSampler"},
    ),
    # Masks are drawn from the annotations each time: eva would keep them in the home folder, for whatever else is called MoNuSAC there.
    "monusac": EvaTask(
        "MoNuSAC",
        "monusac",
        5,
        100,
        val="test",
        segmentation=True,
        more={"export_masks": False},
        said="The patience of 100 looks is inferred, as a fifth of the epochs: eva's of today is not known here (earlier: 50).",
    ),
}


def eva_tasks(words: str | None) -> list[str]:
    """The tasks named in TASK[,TASK...], or UserError; none where nothing is given."""
    names = [] if words is None else list(dict.fromkeys(word.strip() for word in words.split(",")))
    unknown = [name for name in names if name not in TASKS]
    if unknown:
        raise UserError(
            f"--eva {words}: {', '.join(map(repr, unknown))} is no task of eva that an export is prepared for; give one or more of "
            f"{', '.join(TASKS)}, with commas between them."
        )
    return names


def write_eva_configs(
    folder: Path, names: Sequence[str], *, encoder: nn.Module, config: Mapping[str, Any], called: str
) -> None:
    """Writes eva/TASK.yaml into the export's `folder` for each of these names.

    encoder: the model that is exported. config: the run's. called: the name that the export's folder will have. UserError where eva cannot
    take the features that the run's tasks were probed on.
    """
    for name in names:
        content = eva_config(name, encoder=encoder, config=config, called=called)
        path = folder / FOLDER / f"{name}.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(_head(name, called) + yaml.safe_dump(content, sort_keys=False, width=1000))


def holds_configs_alone(folder: Path) -> bool:
    """Whether nothing but configs for eva is in it."""
    return folder.is_dir() and {path.name for path in folder.iterdir()} <= {f"{name}.yaml" for name in TASKS}


def eva_config(name: str, *, encoder: nn.Module, config: Mapping[str, Any], called: str) -> dict[str, Any]:
    """What the YAML of this task says; the arguments are those of `write_eva_configs`."""
    task = TASKS[name]
    splits = {"train": "train", "val": task.val} | ({"test": task.test} if task.test else {})
    place = re.sub(r"[^\w.-]", "_", called) + f"/{name}"
    embeddings = f"{_env('EMBEDDINGS_ROOT', './data/embeddings')}/{place}"
    output = {"out_indices": 1} if task.segmentation else _output(encoder, config["features"])
    backbone = _made(
        "eva.vision.models.TimmModel", model_name=f"local-dir:{_env('EXPORT_ROOT', called)}", pretrained=True, **output
    )
    features = encoder.num_features * (2 if "transforms" in output else 1)
    model = (_segmentation if task.segmentation else _classification)(task, features)
    return {
        "trainer": _trainer(task, place, embeddings, list(splits), backbone),
        "model": model,
        "data": _made(
            "eva.DataModule",
            datasets={
                **{split: _features_of(task, embeddings, split) for split in splits},
                "predict": [
                    _images_of(task, split, _image_px(encoder), config["augmentation"]) for split in splits.values()
                ],
            },
            dataloaders=_loaders(task, list(splits)),
            **(
                {"samplers": {"train": _made("eva.core.data.samplers.classification.BalancedSampler", num_samples=10)}}
                if task.few_shot
                else {}
            ),
        ),
    }


def _trainer(task: EvaTask, place: str, embeddings: str, splits: list[str], backbone: dict) -> dict[str, Any]:
    logs = _env("OUTPUT_ROOT", f"logs/{place}")
    watched = {"monitor": _env("MONITOR_METRIC", f"val/{_metric(task)}"), "mode": _env("MONITOR_METRIC_MODE", "max")}
    writer = f"eva.callbacks.{'Segmentation' if task.segmentation else 'Classification'}EmbeddingsWriter"
    seldom = {"check_val_every_n_epoch": 10, "num_sanity_val_steps": 0} if task.few_shot else {}
    return _made(
        "eva.Trainer",
        n_runs=_env("N_RUNS", 50 if task.few_shot else 5),
        default_root_dir=logs,
        max_steps=_env("MAX_STEPS", 2000 if task.segmentation else 12500),
        accelerator=_env("ACCELERATOR", "auto"),
        **seldom,
        callbacks=[
            _made("eva.callbacks.ConfigurationLogger"),
            _made(
                "lightning.pytorch.callbacks.ModelCheckpoint", filename="best", save_last=False, save_top_k=1, **watched
            ),
            _made(
                "lightning.pytorch.callbacks.EarlyStopping",
                min_delta=0.0001 if task.few_shot else 0,
                patience=_env("PATIENCE", task.patience),
                **watched,
            ),
            _made(
                writer,
                output_dir=embeddings,
                dataloader_idx_map=dict(enumerate(splits)),
                backbone=backbone,
                overwrite=False,
                **({"metadata_keys": ["coords"]} if task.dataset == "CoNSeP" else {}),
            ),
        ],
        logger=[_made("lightning.pytorch.loggers.TensorBoardLogger", save_dir=logs, name="")],
    )


def _classification(task: EvaTask, features: int) -> dict[str, Any]:
    two = task.classes == 2
    return _made(
        "eva.HeadModule",
        head=_made("torch.nn.Linear", in_features=features, out_features=1 if two else task.classes),
        criterion="torch.nn.BCEWithLogitsLoss" if two else "torch.nn.CrossEntropyLoss",
        optimizer=_made("torch.optim.AdamW", lr=_env("LR_VALUE", 0.0003)),
        metrics={
            "common": [
                _made("eva.metrics.AverageLoss"),
                _made("eva.metrics.BinaryClassificationMetrics")
                if two
                else _made("eva.metrics.MulticlassClassificationMetrics", num_classes=task.classes),
            ]
        },
    )


def _segmentation(task: EvaTask, features: int) -> dict[str, Any]:
    # MoNuSAC's test masks have a class more, of what its annotators could not tell; eva leaves its pixels out.
    ambiguous = task.classes if task.dataset == "MoNuSAC" else None
    ignored = {} if ambiguous is None else {"ignore_index": ambiguous}
    return _made(
        "eva.vision.models.modules.SemanticSegmentationModule",
        decoder=_made(
            "eva.vision.models.networks.decoders.segmentation.ConvDecoderMS",
            in_features=features,
            num_classes=task.classes,
        ),
        criterion=_made("eva.vision.losses.DiceLoss", softmax=True, batch=True, **ignored),
        lr_multiplier_encoder=0.0,
        # No schedule, as in eva's newest: a third of it for five epochs by default. seg_conv falls polynomially, as eva's earlier ones.
        optimizer=_made("torch.optim.AdamW", lr=_env("LR_VALUE", 0.002)),
        # Where eva's configurations have torch.argmax, for which jsonargparse needs one package more (typeshed-client).
        postprocess={
            "predictions_transforms": [
                _made("eva.core.models.transforms.AsDiscrete", argmax=True, dim=1, keepdim=False)
            ]
        },
        metrics={
            "common": [_made("eva.metrics.AverageLoss")],
            "evaluation": [
                _made(
                    "eva.vision.metrics.defaults.MulticlassSegmentationMetrics",
                    num_classes=task.classes + len(ignored),
                    **ignored,
                )
            ],
        },
    )


def _features_of(task: EvaTask, embeddings: str, split: str) -> dict[str, Any]:
    kind = (
        "eva.vision.datasets.EmbeddingsSegmentationDataset"
        if task.segmentation
        else "eva.datasets.EmbeddingsClassificationDataset"
    )
    to_float = _made(
        "torchvision.transforms.v2.ToDtype", dtype="torch.float32"
    )  # of two classes, for the binary cross-entropy
    more = {"target_transforms": to_float} if task.classes == 2 else {}
    return _made(kind, root=embeddings, manifest_file="manifest.csv", split=split, **more)


def _images_of(task: EvaTask, split: str, image_px: int, colours: Mapping[str, Any]) -> dict[str, Any]:
    return _made(
        f"eva.vision.datasets.{task.dataset}",
        root=_env("DATA_ROOT", f"./data/{task.root}"),
        split=split,
        **(task.more or {}),
        transforms=_made(
            "eva.vision.data.transforms.common.ResizeAndCrop",
            size=_env("RESIZE_DIM", image_px),
            mean=list(colours["mean"]),
            std=list(colours["std"]),
        ),
    )


def _loaders(task: EvaTask, splits: list[str]) -> dict[str, Any]:
    batch = {"batch_size": _env("BATCH_SIZE", 64 if task.segmentation else 256)}
    workers = {"num_workers": _env("N_DATA_WORKERS", 4)}
    loaders = {split: {**batch, **workers} for split in splits}
    loaders["train"]["shuffle"] = not task.few_shot  # which draws its images by a sampler
    return {**loaders, "predict": {"batch_size": _env("PREDICT_BATCH_SIZE", 64), **workers}}


def _metric(task: EvaTask) -> str:
    if task.segmentation:
        return "MonaiDiceScore"
    return "BinaryBalancedAccuracy" if task.classes == 2 else "MulticlassAccuracy"


def _output(encoder: nn.Module, features: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of eva's TimmModel by which it gives the features that stand for an image in the run's tasks."""
    if features["block"] is not None or features["pool"] not in ("cls", "cls_mean"):
        raise UserError(
            f"--eva: eva takes the last block's CLS token, alone or beside the mean of the patch tokens (features.pool=cls or cls_mean), "
            f"but this run has features.pool={features['pool']} features.block={features['block']}. Export it without --eva."
        )
    if features["pool"] == "cls":
        return {}
    registers = encoder.num_prefix_tokens - 1
    with_mean = _made(
        "eva.core.models.transforms.ExtractCLSFeatures", include_patch_tokens=True, num_register_tokens=registers
    )
    return {"model_kwargs": {"global_pool": ""}, "transforms": with_mean}


def _image_px(encoder: nn.Module) -> int:
    """eva's 224 px, or, for models whose patches do not fill them, the next smaller size that they do."""
    patch_px = encoder.patch_embed.feat_ratio(as_scalar=True)
    return max(IMAGE_PX // patch_px, 1) * patch_px


def _head(name: str, called: str) -> str:
    task = TASKS[name]
    reported = (
        "the test split is reported"
        if task.test
        else "validation is reported, by which each run was chosen, which flatters"
    )
    return (
        f"# {name} by kaiko-eva 0.4.5's offline protocol of today, for the export {called}; {reported}.\n"
        + (f"# {task.said}\n" if task.said else "")
        + f"# Run it where the folder {called} lies, or name that folder by EXPORT_ROOT:\n"
        f"#     DATA_ROOT={task.root} eva predict_fit --config {called}/{FOLDER}/{name}.yaml\n"
        "# It takes `pip install 'kaiko-eva[vision]==0.4.5' 'jsonargparse==4.38.*'` (newer ones refuse eva's own configurations).\n"
        "# Features stay in EMBEDDINGS_ROOT: eva does not compute them again, and refuses to write over them.\n"
    )


def _made(class_path: str, **init_args: Any) -> dict[str, Any]:
    """As jsonargparse has it: an instance of a class."""
    return {"class_path": class_path, **({"init_args": init_args} if init_args else {})}


def _env(variable: str, default: str | float) -> str:
    """As OmegaConf has it: the environment variable's value, or the default."""
    return f"${{oc.env:{variable}, {_in_quotes(default) if isinstance(default, str) else default}}}"


def _in_quotes(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("${", "\\${")
    return f"'{escaped}'"

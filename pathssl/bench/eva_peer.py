"""kaiko-eva's own training of heads on given features: a program for an environment that has kaiko-eva, and not pathssl.

    python eva_peer.py FOLDER SETTINGS.json

FOLDER holds eva's manifest.csv and one file of features an image. Prints a line of JSON: for each run its seconds and metrics.
"""

import contextlib
import io
import json
import sys
import tempfile
import time
from functools import partial

import torch
from eva.core import DataModule, HeadModule, Trainer
from eva.core.data.dataloaders import DataLoader
from eva.core.data.datamodules.schemas import DataloadersSchema, DatasetsSchema
from eva.core.data.datasets import EmbeddingsClassificationDataset
from eva.core.metrics import BinaryClassificationMetrics, MulticlassClassificationMetrics
from eva.core.metrics.structs import MetricsSchema
from eva.core.trainers.functional import run_evaluation
from lightning.pytorch import seed_everything
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint


def main(folder: str, settings: dict) -> list[dict]:
    return [one_run(folder, settings, run) for run in range(settings["runs"])]


def one_run(folder: str, settings: dict, run: int) -> dict:
    seed_everything(settings["seed"] * 1000 + run)
    binary = settings["classes"] == 2
    monitor = f"val/{settings['monitor']}"
    optimiser = partial(getattr(torch.optim, settings["optimiser"]), **settings["optimiser_arguments"])
    model = HeadModule(
        head=torch.nn.Linear(settings["dim"], 1 if binary else settings["classes"]),
        criterion=torch.nn.BCEWithLogitsLoss() if binary else torch.nn.CrossEntropyLoss(),
        optimizer=optimiser,
        **({"lr_scheduler": partial(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=settings["steps"], eta_min=0.0)}
           if settings["schedule"] == "cosine" else {}),
        metrics=MetricsSchema(
            common=BinaryClassificationMetrics() if binary else MulticlassClassificationMetrics(num_classes=settings["classes"])
        ),
    )  # fmt: skip

    def data(split: str) -> EmbeddingsClassificationDataset:
        return EmbeddingsClassificationDataset(
            folder, "manifest.csv", split=split, target_transforms=torch.Tensor.float if binary else None
        )

    loader = partial(DataLoader, batch_size=settings["batch"], **settings["loader"])
    module = DataModule(
        datasets=DatasetsSchema(train=data("train"), val=data("val"), test=data("test")),
        dataloaders=DataloadersSchema(train=loader(shuffle=True), val=loader(), test=loader()),
    )
    with tempfile.TemporaryDirectory() as logs:
        trainer = Trainer(
            default_root_dir=logs,
            max_steps=settings["steps"],
            accelerator="cpu",
            enable_progress_bar=False,
            callbacks=[
                ModelCheckpoint(filename="best", save_last=False, save_top_k=1, monitor=monitor, mode="max"),
                EarlyStopping(monitor=monitor, min_delta=0, patience=settings["patience"], mode="max"),
            ],
        )
        start_s = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()):
            val, test = run_evaluation(trainer, model, module, run_id=run, verbose=False)
        took_s = time.perf_counter() - start_s
    return {"seconds": took_s, **{key: float(value) for found in (*val, *test) for key, value in found.items()}}


if __name__ == "__main__":
    torch.set_num_threads(1)
    with open(sys.argv[2], encoding="utf-8") as file:
        answer = main(sys.argv[1], json.load(file))
    print(json.dumps(answer))

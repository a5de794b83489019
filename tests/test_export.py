"""A run's teacher as a folder for timm and for the Hub, and hubconf.py, as users open them."""

import contextlib
import functools
import http.server
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import timm
import torch
import yaml
from programs import ROOT, train
from safetensors.torch import load_file, save_file

import pathssl.export
from pathssl.cli import main
from pathssl.models.encoder import create_encoder
from pathssl.probe_records import read_rows
from pathssl.report.card import model_card

LAST = "checkpoints/step_00000008/teacher.safetensors"


@pytest.fixture
def run(small, tmp_path_factory) -> Path:
    """A run of vit_nano, eight steps at 32 px, trained once for this file."""
    folder = tmp_path_factory.getbasetemp() / "of_export"
    if not folder.is_dir():
        folder.mkdir()  # before: where it cannot be trained it is tried once
        kept = [one for one in small if not one.startswith(("model.args", "output_dir"))]
        done = train(*kept, "unsupervised.patches=128", f"output_dir={folder}", cwd=folder.parent)
        assert done.returncode == 0, done.stdout + done.stderr
    (config,) = folder.glob("*/*/seed*/config.yaml")
    return config.parent


@pytest.fixture
def exported(run) -> Path:
    """Its export, made once; tests leave it as it is."""
    folder = run.parents[2] / "vit"
    if not folder.is_dir():
        assert main(["export", str(run), "--to", str(folder)]) == 0
    return folder


def teachers_features(run, images, weights=LAST) -> torch.Tensor:
    model = yaml.safe_load((run / "config.yaml").read_text())["model"]
    encoder = create_encoder(model["name"], model["args"], 0.0)
    encoder.load_state_dict(load_file(run / weights), strict=True)
    with torch.inference_mode():
        return encoder.eval()(images)


def noise(*sizes) -> dict[str, torch.Tensor]:
    return {str(size): torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(size)) for size in sizes}


def in_a_fresh_process(code, *arguments, cwd, **more) -> str:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False, **more)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_an_export_replaces_another_and_says_for_machines_how_well_it_agrees(run, exported, tmp_path, capsys):
    folder = tmp_path / "new" / "vit"
    shutil.copytree(exported, folder)
    more = ["--step", "4", "--licence", "cc-by-nc-4.0", "--name", "Nano: a ViT"]
    assert main(["export", str(run), "--to", str(folder), *more, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["folder"], answer["step"]) == (str(folder), 4)
    assert answer["architecture"] == "vit_tiny_patch16_224"
    assert answer["parameters"] == sum(tensor.numel() for tensor in load_file(run / LAST).values())
    assert 0 <= answer["greatest_difference"] <= 1e-5
    assert [path.name for path in folder.parent.iterdir()] == ["vit"]
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors", "README.md"}
    exports, fourth = load_file(folder / "model.safetensors"), load_file(run / LAST.replace("08", "04"))
    assert exports.keys() == fourth.keys() and all(torch.equal(exports[name], fourth[name]) for name in fourth)
    config, card = json.loads((folder / "config.json").read_text()), (folder / "README.md").read_text()
    assert yaml.safe_load(card.split("---\n")[1])["license"] == config["pretrained_cfg"]["license"] == "cc-by-nc-4.0"
    assert "\n# Nano: a ViT\n" in card and config["pretrained_cfg"]["tag"] == "Nano_a_ViT"
    assert "step 4 of the run" in card and config["pathssl"]["step"] == 4


def test_configs_for_eva_lie_in_the_export_and_go_with_it(run, exported, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(pathssl.export, "compare", lambda *_: 0.0)  # takes seconds, and is tested above
    folder = tmp_path / "vit"
    shutil.copytree(exported, folder)
    (folder / "eva").mkdir()
    (folder / "eva" / "crc.yaml").write_text("of another export")
    assert main(["export", str(run), "--to", str(folder), "--eva", "bach,consep", "--json"]) == 0
    configs = sorted((folder / "eva").iterdir())
    assert json.loads(capsys.readouterr().out)["eva"] == [str(path) for path in configs]
    assert [path.name for path in configs] == ["bach.yaml", "consep.yaml"]
    head = yaml.safe_load(configs[0].read_text())["model"]["init_args"]["head"]
    assert head["init_args"] == {"in_features": 128, "out_features": 4}
    (folder / "eva" / "results.json").write_text("{}")
    assert main(["export", str(run), "--to", str(folder)]) == 2
    assert "is no export" in capsys.readouterr().err and len(list((folder / "eva").iterdir())) == 3


@pytest.mark.parametrize("classes", [None, 0, 5])
def test_timm_takes_it_with_and_without_a_classifier(classes, run, exported):
    given = {} if classes is None else {"num_classes": classes}
    model = timm.create_model(f"local-dir:{exported}", pretrained=True, **given).eval()
    image = noise(32)["32"]
    with torch.inference_mode():
        assert model(image).shape == (2, classes or 128)
        features = model.forward_head(model.forward_features(image), pre_logits=True)
    torch.testing.assert_close(features, teachers_features(run, image), rtol=0, atol=1e-5)


def test_timms_own_transform_is_the_runs(run, exported):
    data = timm.data.resolve_model_data_config(timm.create_model(f"local-dir:{exported}", pretrained=True))
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert (tuple(data["input_size"]), data["crop_pct"], data["interpolation"]) == ((3, 32, 32), 1.0, "bicubic")
    assert [list(data[key]) for key in ("mean", "std")] == [config["augmentation"][key] for key in ("mean", "std")]


def test_the_card_has_front_matter_data_recipe_and_probes_beside_their_null(run, exported):
    _, front, text = (exported / "README.md").read_text().split("---\n", 2)
    front = yaml.safe_load(front)
    assert (front["license"], front["library_name"]) == ("unknown", "timm")
    assert front["pipeline_tag"] == "image-feature-extraction" and {"timm", "pathology", "dino"} <= set(front["tags"])
    assert (
        json.loads((exported / "config.json").read_text())["pretrained_cfg"]["license"]
        == "unknown; see the slides' terms"
    )
    rows = {row["step"]: row for row in read_rows(run)}
    now, null = (rows[step]["probe/synthetic/linear/test/balanced_accuracy"] for step in (8, 0))
    assert f"| balanced accuracy (synthetic, linear, test) | {now:.3f} | {null:.3f} |" in text
    environment = json.loads((run / "environment.json").read_text())
    data = json.loads((run / "data.json").read_text())
    for part in (
        'timm.create_model("local-dir:vit", pretrained=True)',
        f"4 slides of 4 cases and {data['sites']} sites",
        "µm/px (10×) | 64 |",
        "| steps | 8 of 8 |",
        "| batch | 8 patches |",
        "| patches seen | 64 of 64 |",
        "| objective | DINO |",
        "teacher momentum",
        "horizontal_flip: 0.5",
        f"timm {timm.__version__}",
        str(environment["commit"]),
        "not for diagnosis",
        "see the slides' terms",
    ):
        assert part in text, part
    assert str(run.parents[2]) not in text  # no place on this machine


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["{tmp}/nowhere", "--to", "{tmp}/new"], "There is no run in"),
        (["{run}", "--to", "{tmp}/new", "--step", "5"], "checkpoints of the steps 0, 4, 8"),
        (["{run}", "--to", "{tmp}/mine"], "is no export of pathssl"),
        (["{run}", "--to", "{tmp}/mine/notes.txt"], "is no export of pathssl"),
        (["{run}", "--to", "{run}"], "is no export of pathssl"),
        (["{run}", "--to", "{tmp}/new", "--name", " "], "--name"),
        (["{run}", "--to", "{tmp}/new", "--licence", "a\nb"], "--licence"),
        (["{run}", "--to", "{tmp}/new", "--eva", "bach,panda"], "'panda' is no task of eva"),
        (["{run}", "--to", "{tmp}/mine/notes.txt/new"], "cannot be written"),
    ],
)
def test_wrong_calls_are_answered_in_a_sentence_and_leave_nothing(arguments, says, run, tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("kept")
    before = {*tmp_path.rglob("*"), *run.rglob("*")}
    assert main(["export", *(word.format(run=run, tmp=tmp_path) for word in arguments)]) == 2
    assert says in capsys.readouterr().err
    assert {*tmp_path.rglob("*"), *run.rglob("*")} == before


def test_an_export_to_which_something_was_added_is_not_replaced(run, exported, tmp_path, capsys):
    (tmp_path / "vit").mkdir()
    for file in exported.iterdir():
        os.link(file, tmp_path / "vit" / file.name)
    (tmp_path / "vit" / ".git").mkdir()
    assert main(["export", str(run), "--to", str(tmp_path / "vit")]) == 2
    assert "is no export" in capsys.readouterr().err and (tmp_path / "vit" / ".git").is_dir()


@pytest.mark.slow
def test_what_gives_other_features_than_the_teacher_is_not_exported(run, tmp_path, monkeypatch, capsys):
    def with_two_heads(*arguments, **settings):
        content = honest(*arguments, **settings)
        content["model_args"]["num_heads"] = 2  # the tensors have the same shapes
        return content

    honest = pathssl.export.timm_config
    monkeypatch.setattr(pathssl.export, "timm_config", with_two_heads)
    assert main(["export", str(run), "--to", str(tmp_path / "vit"), "--json"]) == 1
    assert "features differ from the teacher's" in json.loads(capsys.readouterr().out)["error"]
    assert not list(tmp_path.iterdir())


def load_hubconf():
    spec = importlib.util.spec_from_file_location("hubconf", ROOT / "hubconf.py")
    hubconf = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hubconf)
    return hubconf


FRESH = """
import os, sys
import timm, torch
from safetensors.torch import load_file, save_file
root, run, exported, url, images, features = sys.argv[1:]
images = load_file(images)
found = {}
sys.modules["pathssl"] = None  # importing it would fail
os.chdir(os.path.dirname(exported))
model = timm.create_model("local-dir:vit", pretrained=True).eval()
with torch.inference_mode():
    found.update({f"timm/{size}": model(image).contiguous() for size, image in images.items()})
del sys.modules["pathssl"]
os.chdir(os.path.dirname(features))
def take(name, model, *arguments, **settings):
    encoder = torch.hub.load(root, model, *arguments, source="local", **settings)
    with torch.inference_mode():
        found.update({f"{name}/{size}": encoder(image).contiguous() for size, image in images.items()})
take("folder", "vit_nano", weights=exported)
take("file", "vit_nano", weights=run + "/checkpoints/step_00000008/teacher.safetensors")
torch.save({"teacher": {"backbone." + k: v for k, v in load_file(exported + "/model.safetensors").items()}}, "t.pth")
take("pth", "vit_nano", weights="t.pth")
take("url", "vit_nano", weights=url + "/model.safetensors")
take("again", "vit_nano", weights=url + "/model.safetensors")
take("export", "export", exported)
assert not {"cucim", "hydra"} & set(sys.modules)
def refused(model, weights):
    try:
        torch.hub.load(root, model, source="local", weights=weights)
    except ValueError as error:
        print(error)
        return
    raise AssertionError((model, weights))
refused("vits16", exported)
refused("vits16", url + "/model.safetensors")
refused("vits16", url + "/none.safetensors")
refused("vit_nano", url + "/cut.safetensors")
refused("vit_nano", url + "/cut.safetensors")
state = load_file(exported + "/model.safetensors")
torch.save({name: tensor for name, tensor in state.items() if name != "norm.bias"}, "gap.pth")
refused("vit_nano", "gap.pth")
torch.save(state | {"patch_embed.proj.weight": torch.zeros(128, 3, 16, 16)}, "coarse.pth")
refused("vit_nano", "coarse.pth")
save_file(found, features)
"""


@pytest.mark.slow
def test_a_fresh_process_opens_it_with_timm_alone_and_folders_files_and_urls_with_torch_hub(run, exported, tmp_path):
    images = noise(32, 48)
    save_file(images, tmp_path / "images.safetensors")
    shutil.copytree(exported, tmp_path / "served")
    whole = (exported / "model.safetensors").read_bytes()
    (tmp_path / "served" / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    with serve(tmp_path / "served") as (url, asked):
        files = tmp_path / "images.safetensors", tmp_path / "features.safetensors"
        environment = {**os.environ, "TORCH_HOME": str(tmp_path / "cache")}
        said = in_a_fresh_process(FRESH, ROOT, run, exported, url, *files, cwd=tmp_path, env=environment)
    assert asked == ["/model.safetensors", "/none.safetensors", "/cut.safetensors", "/cut.safetensors"]
    for name, features in load_file(tmp_path / "features.safetensors").items():
        expected = teachers_features(run, images[name.rpartition("/")[2]])
        torch.testing.assert_close(features, expected, rtol=0, atol=1e-5, msg=name)
        assert not torch.equal(
            features, teachers_features(run, images[name.rpartition("/")[2]], LAST.replace("08", "00"))
        )
    for part in (
        "take 'export'",
        "of another model",
        "cannot be fetched",
        "Fetch it again",
        "gap.pth does not",
        "16 px to 8 px",
    ):
        assert part in said
    assert len(list((tmp_path / "cache").rglob("*.safetensors"))) == 1


@contextlib.contextmanager
def serve(folder):
    """The URL of a server of this folder, and the list of the paths that it is asked for."""
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            super().do_GET()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


def test_the_models_of_conf_are_entry_points_of_torch_hub():
    hubconf = load_hubconf()
    named = {name for name, value in vars(hubconf).items() if callable(value) and not name.startswith("_")}
    models = {path.stem for path in (ROOT / "conf" / "model").glob("*.yaml")}
    assert (
        {"vits16", "vits8", "vitb16", "vitb8", "vitl16", "vitl14", "vitg14", "vit_nano"} <= named - {"export"} <= models
    )
    with torch.device("meta"):  # the largest has 1.1 G parameters
        built = {name: getattr(hubconf, name)() for name in named - {"export"}}
    assert built["vitg14"].num_features == 1536 and built["vitg14"].patch_embed.grid_size == (16, 16)
    assert built["vit_nano"].num_features == 128 and all(model.num_classes == 0 for model in built.values())


def test_an_image_size_that_the_config_left_to_timm_is_kept(run, tmp_path):
    """timm builds this architecture for 518 px, and would build an export that does not say so for 224."""
    name, args = "vit_small_patch14_dinov2", {"embed_dim": 12, "depth": 1, "num_heads": 2}
    encoder = create_encoder(name, args, 0.0).eval()
    config = yaml.safe_load((run / "config.yaml").read_text()) | {"model": {"name": name, "args": args}}
    content = pathssl.export.timm_config(encoder, config, tag="x", licence="x")
    (tmp_path / "config.json").write_text(json.dumps(content))
    save_file(encoder.state_dict(), tmp_path / "model.safetensors")
    image = noise(56)["56"]
    with torch.inference_mode():
        torch.testing.assert_close(
            timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()(image), encoder(image)
        )


def test_a_card_says_what_the_run_does_not_tell(run, tmp_path):
    config = yaml.safe_load((run / "config.yaml").read_text())
    settings = {"step": 4, "name": "x", "licence": None, "folder": "x", "parameters": 1, "features": 1}
    card = model_card(tmp_path, config, **settings)
    for part in ("Step 4 was not probed.", "no environment.json", "no data.json"):
        assert part in card


def test_a_card_says_what_was_tested_on_what_was_trained_on(run, tmp_path):
    config = yaml.safe_load((run / "config.yaml").read_text())
    for name in ("metrics.jsonl", "probes"):
        (tmp_path / name).symlink_to(run / name)
    overlaps = [
        {"task": "synthetic", "kind": kind, "name": name, "images": ["a.png"]}
        for kind, name in (("case", "case7"), ("split", "train b.png"))
    ]
    (tmp_path / "leakage.json").write_text(json.dumps({"compared": {}, "overlaps": overlaps}))
    settings = {"step": 8, "name": "x", "licence": None, "folder": "x", "parameters": 1, "features": 1}
    card = model_card(tmp_path, config, **settings)
    assert "**Task synthetic is tested on what was trained on: 1 image of it, the first by case case7 (a.png)." in card
    assert "| balanced accuracy (synthetic, linear, test), tested on what was trained on | " in card
    assert "**Task synthetic has copies between its own splits: 1 image" in card

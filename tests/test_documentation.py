"""What the documentation says can be typed: every command parses and composes, and every link leads to a file.

Commands are read from fenced blocks, from `code` in the text that begins like one, and from the heads of the files in experiments/ and
slurm/. They are not run; what only a cluster, another program or a network can check is named in ELSEWHERE.
"""

import argparse
import logging
import re
import shlex
import shutil
from functools import cache
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from omegaconf._utils import get_yaml_loader
from pages import HEADS, PAGES, ROOT, blocks, commands_of, lines_of

from pathssl import cli, complaints
from pathssl.bench.verb import size
from pathssl.launch import grid
from pathssl.models.encoder import create_encoder

ELSEWHERE = {  # programs whose lines nothing here can check
    "eva": "kaiko-eva, in an environment of its own",
    "gdc-client": "TCGA",
    "wandb": "Weights & Biases",
    "pip": "a network",
    "~/eva/bin/pip": "a network",
    "conda": "a network",
    "scancel": "a cluster",
    "scontrol": "a cluster",
    "export": "the shell's",
}
_PLACEHOLDERS = re.compile(
    r"(?<!\S)(OVERRIDES|\.\.\.|experiment=NAME)(?!\S)"
)  # of lines that stand for many, which are checked without
_SBATCH_OVERRIDES = {"train.sbatch": "train", "train_8gpu.sbatch": "train", "train_multinode.sbatch": "train"}
_SBATCH_OVERRIDES |= {"index.sbatch": "index", "probe.sbatch": "probe", "wandb_agent.sbatch": None}


class Wrong(Exception):
    """What a command has wrong."""


@cache
def check_runs(typed: tuple[str, ...], multirun: bool) -> None:
    """As train.py would take it: a value of every key that is swept is composed once, beside the first ones of the others."""
    swept = any(word.is_sweep_override() for word in OverridesParser.create().parse_overrides(list(typed)))
    if not (multirun and (swept or any(word.startswith("experiment=") for word in typed))):
        cli.compose(typed)
        return
    found = grid.read_grid(typed)
    first = {key: values[0] for key, values in found.swept.items() if isinstance(values, list)}
    named = {word.partition("=")[0] for word in typed}
    runs = [first]
    for key, values in found.swept.items():
        if not isinstance(values, list):
            runs += [first | {key: repr(end)} for end in (values.low, values.high)]
        elif key in named and key != "seed":
            runs += [first | {key: value} for value in values[1:]]
        elif key not in named and (complaints.CONF / key).is_dir():  # of the study's own, which have tests of their own
            complaints.check_options([f"{key}={','.join(values)}"])
            absent = [value for value in values if not (complaints.CONF / key / f"{value}.yaml").is_file()]
            if absent:
                raise Wrong(f"there is no {key}={absent[0]}")
    list(grid.compose_runs([[*found.fixed, *(f"{key}={value}" for key, value in run.items())] for run in runs]))


def check_train(words: list[str]) -> None:
    switches = [word for word in words if word.startswith("-")]
    if set(switches) - {"-m", "--help"} and switches != ["--cfg"]:
        raise Wrong(f"train.py knows no {switches}")
    overrides = tuple(word for word in words if "=" in word)
    if rest := set(words) - {*switches, *overrides} - ({"job"} if "--cfg" in switches else set()):
        raise Wrong(f"{rest} is no override")
    named = {word.partition("=")[0] for word in overrides}
    if named & {"hydra.launcher.partition", "hydra.launcher.timeout_min"} and "hydra/launcher" not in named:
        overrides += ("hydra/launcher=slurm_1gpu",)  # which a cluster would have chosen
    check_runs(tuple(sorted(overrides)), "-m" in switches)


def check_verb(words: list[str]) -> None:
    if words == ["--help"] or words[1:] == ["--help"]:
        return
    seen = []

    def parse(parser, words=None, namespace=None, parse=argparse.ArgumentParser.parse_known_args):
        options, more = parse(parser, words, namespace)
        if parser.prog == "python -m pathssl":
            options.run = lambda options: seen.append(options) or {"text": ""}
        return options, more

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_known_args", parse)
        patch.setattr(logging, "basicConfig", lambda **_: None)
        patch.setattr("builtins.print", lambda *_, **__: None)
        try:
            cli.main(words)
        except SystemExit as stop:
            raise Wrong(f"python -m pathssl {shlex.join(words)} is not parsed") from stop
    (options,) = seen
    overrides = list(getattr(options, "overrides", []))
    if options.verb == "probe":
        # a run's folder has a = too, but behind a /
        overrides = [word for word in options.words if re.match(r"[\w.+~@]+=", word)]
        if overrides or Path(options.words[0]).suffix == ".safetensors":
            overrides += ["task=[synthetic]"] * (not any(word.startswith("task=") for word in overrides))
    if options.verb == "bench":
        overrides = [*size(options.what, overrides), *overrides]
    if overrides:
        check_runs(tuple(sorted(overrides)), options.verb in ("plan", "sweep"))


def check(words: list[str]) -> None:
    """Raises Wrong, or what the code says of it."""
    program, *rest = words
    if words[:2] == ["python", "train.py"]:
        check_train(words[2:])
    elif words[:3] == ["python", "-m", "pathssl"]:
        check_verb(words[3:])
    elif program == "torchrun":
        check_train(rest[rest.index("train.py") + 1 :])
    elif program == "sbatch":
        file = next((k for k, word in enumerate(rest) if not word.startswith("-")), None)
        if file is None:  # it says more of options than of files
            return
        name, given = rest[file].removeprefix("slurm/"), rest[file + 1 :]
        if name not in _SBATCH_OVERRIDES or not (ROOT / rest[file]).is_file():
            raise Wrong(f"there is no {rest[file]}")
        kind = _SBATCH_OVERRIDES[name]
        if kind:
            check_train(given) if kind == "train" else check_verb([kind, *given, "--part", "1/8"])
    elif program == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)
        if not set(rest) <= set(targets):
            raise Wrong(f"make has no {rest}")
    elif program == "source":
        if rest != [".venv/bin/activate"] and not (ROOT / rest[0]).is_file():
            raise Wrong(f"there is no {rest[0]}")
    elif words[:3] != ["python", "-m", "venv"] and program not in ELSEWHERE:
        raise Wrong(f"{program} is no program that this test knows: check it here, or name it in ELSEWHERE")


@pytest.fixture(scope="module", autouse=True)
def studies_of_the_pages(tmp_path_factory):
    """conf/ and experiments/, with the studies that pages show in whole; each file is parsed once, which halves the time."""
    conf = tmp_path_factory.mktemp("documented") / "conf"
    shutil.copytree(ROOT / "conf", conf)  # what conf/experiment links to too
    for page in PAGES:
        for block in blocks(page, "yaml"):
            if block.startswith("# @package _global_"):
                (conf / "experiment" / f"{yaml.safe_load(block)['study']}.yaml").write_text(block)
    parsed = cache(lambda path: yaml.load(Path(path).read_text(), Loader=get_yaml_loader()))
    with pytest.MonkeyPatch.context() as patch:
        for module in (complaints, grid):
            patch.setattr(module, "CONF", conf)
        patch.setattr(OmegaConf, "load", staticmethod(lambda file: OmegaConf.create(parsed(file.name) or {})))
        yield


@pytest.mark.parametrize("path", [*PAGES, *HEADS], ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_can_be_typed(path):
    wrong = []
    for line in lines_of(path):
        for words in commands_of(_PLACEHOLDERS.sub("", line)):
            try:
                check(words)
            except (Wrong, ValueError) as error:  # UserErrors are ValueErrors
                wrong.append(f"{line}\n    {error}")
    assert not wrong, "\n".join(wrong)


def test_an_option_of_ones_own_is_added_as_the_readme_says():
    for group, copied in (("model", "vits16"), ("task", "folder"), ("probe", "knn"), ("objective", "dino")):
        text = (complaints.CONF / group / f"{copied}.yaml").read_text()
        (complaints.CONF / group / "mine.yaml").write_text(text.replace(f"{group}.{copied}\n", f"{group}.mine\n"))
    typed = ["model=mine", "objective=mine", "task=[mine]", "task.mine.path=/labelled", "probe=[linear,mine]"]
    config = cli.compose(typed)
    assert [*config["task"]] == ["mine"] and {"linear", "mine"} <= config["probe"].keys()
    named = cli.compose(["model=vits16", "model.name=deit_tiny_patch16_224"])["model"]
    assert create_encoder(named["name"], named["args"]).num_features == 192  # what the pages say of names of timm's


@pytest.mark.parametrize(
    "line",
    [
        "python train.py model=vits17",
        "python train.py modle=vits16",
        "python train.py teacher=m0.99,m0.996",  # without -m
        "python train.py teacher=m0.99,m0.997 -m",
        "python train.py experiment=dmo -m",
        "python train.py data=folder",  # of where?
        "python train.py scale=tiny --multi",
        "python -m pathssl reprot outputs/demo",
        "python -m pathssl noise outputs/demo --diffrence 0.01",
        "python -m pathssl plan experiment=demo teachr=m0.9",
        "python -m pathssl probe outputs/demo/teacher=m0.99/seed0 task.foldr.path=DIR",
        "sbatch slurm/trian.sbatch scale=tiny",
        "sbatch --nodes=2 slurm/train_multinode.sbatch scale=tny",
        "torchrun --nproc-per-node=8 train.py recipe=kaiko_vitb9",
        "make dmeo",
        "source slurm/enviroment.sh",
        "frobnicate the slides",
    ],
)
def test_a_wrong_command_is_found(line):
    with pytest.raises((Wrong, ValueError)):
        for words in commands_of(line):
            check(words)


def test_commands_are_found_where_they_stand():
    assert "make demo    # builds" in "\n".join(lines_of(ROOT / "README.md"))
    demo = ["python train.py experiment=demo hydra/launcher=local -m && python -m pathssl report outputs/demo"]
    assert lines_of(ROOT / "experiments" / "demo.yaml") == demo and len(commands_of(demo[0])) == 2
    inline = [line for line in lines_of(ROOT / "slurm" / "README.md") if line.startswith("sbatch --array=1-16")]
    assert inline == ["sbatch --array=1-16 slurm/index.sbatch OVERRIDES"]
    assert sum(len(lines_of(path)) for path in (*PAGES, *HEADS)) > 100


def anchors(page: Path) -> set[str]:
    """Of a page's headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.*)$", "\n".join(blocks(page, None)), re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(page):
    for link in re.findall(r"\]\(([^)]+)\)", "\n".join(blocks(page, None))):
        if "://" in link:
            continue
        name, _, anchor = unquote(link).partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists() and target.is_relative_to(ROOT), f"{page.name}: {link}"
        assert not anchor or anchor in anchors(target), f"{page.name}: {link}"


def test_files_that_the_text_names_are_there():
    named = {
        name
        for page in PAGES
        for name in re.findall(
            r"`((?:conf|experiments|pathssl|slurm|benchmarks|tests|docs)/[\w./]+)`", page.read_text()
        )
    }
    examples = {"conf/model/mine.yaml", "conf/task/mine.yaml", "conf/probe/mine.yaml", "conf/objective/mine.yaml"}
    examples |= {
        "conf/grid/NAME/SCALE.yaml",
        "conf/report/SCALE.yaml",
        "conf/grid/mine/tiny.yaml",
        "conf/grid/teacher_here/tiny.yaml",
        "experiments/mine.yaml",
        "experiments/teacher_here.yaml",
    }
    assert sorted(name for name in named - examples if not (ROOT / name).exists()) == []


def test_pages_are_short_and_have_a_way_in():
    way_in = (ROOT / "README.md").read_text()
    for page in (ROOT / "docs").glob("*.md"):
        assert len(page.read_text().splitlines()) <= 150, f"{page.name} is long: make two of it"
        assert f"(docs/{page.name})" in way_in, f"README.md does not lead to {page.name}"
    assert len(way_in.splitlines()) <= 125

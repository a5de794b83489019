"""Adds to Hydra's complaint about a misspelt key what may have been meant."""

import difflib
import json
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from pathssl.errors import UserError

REPORT = ("question", "expectation", "baseline", "primary", "family", "metrics")
_NO_OPTION = (
    r"[+-]?(\d[\d_]*\.?\d*|\.\d+)(e[+-]?\d+)?|null|true|false"  # what Hydra reads as something else than a name
)
_TAKE_A_WORD = ("-c", "--cfg", "-p", "--package", "-i", "--info", "-cp", "--config-path", "-cn", "--config-name")
_TAKE_A_WORD += ("-cd", "--config-dir", "--experimental-rerun")
CONF = Path(__file__).resolve().parents[1] / "conf"


@contextmanager
def explained(arguments: Sequence[str]) -> Iterator[None]:
    """Lets Hydra's own exit through, and prints a suggestion for every override whose key exists nowhere in conf/."""
    try:
        check_flags(arguments)
        check_options(arguments)
        check_whole(arguments)
        yield
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    except SystemExit as stop:
        # Hydra's own, before a run began; a run that failed says why itself, and its keys are known.
        if stop.code == 1 and "pathssl.slides.cucim_reader" not in sys.modules:
            for sentence in suggestions(arguments):
                print(sentence, file=sys.stderr)
        raise


def check_flags(arguments: Sequence[str]) -> None:
    """UserError for flags that Hydra does not take together, which it answers with a traceback."""
    words = {argument.partition("=")[0] for argument in arguments}
    for short, flag, does in (("-c", "--cfg", "prints the config of one run"), ("-i", "--info", "tells of one run")):
        if words & {short, flag} and words & {"-m", "--multirun"}:
            raise UserError(f"{flag} {does}: leave out -m, and name one value of each key.")


def check_options(arguments: Sequence[str]) -> None:
    """UserError for what Hydra answers with a traceback (an option that is a number), of its grammar alone (a word without =) or not at all
    (an experiment that is not there)."""
    for before, argument in zip(("", *arguments), arguments, strict=False):
        if not argument.startswith(("-", "~")) and "=" not in argument and before not in _TAKE_A_WORD:
            raise UserError(_no_override(argument))
        group, _, value = argument.partition("=")
        if not group or not (CONF / group).is_dir():
            continue
        for word in value.split(","):
            if re.fullmatch(_NO_OPTION, word, re.IGNORECASE) or group == "experiment":
                _check_option(group, word)
            if group == "experiment":
                _check_study(word)


def _no_override(word: str) -> str:
    studies = _options("experiment")
    near = [Path(word).stem] if Path(word).stem in studies else difflib.get_close_matches(word, studies, n=1)
    did_you = (
        f"Did you mean experiment={near[0]}?" if near else "`python train.py --help` lists the groups of settings."
    )
    return f"{word} is no override: those are KEY=VALUE, as in model=vits16. {did_you}"


def _options(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def _check_option(group: str, word: str, where: str = "") -> None:
    if word in (options := _options(group)):
        return
    near = difflib.get_close_matches(word, options, n=1, cutoff=0.4)
    did_you = f" Did you mean {near[0]}?" if near else ""
    if word.lower() == "null":
        did_you = f" For none leave {group} out."
    raise UserError(f"{where}There is no {group}={word}: choose one of {', '.join(options)}.{did_you}")


def _check_study(experiment: str) -> None:
    """UserError for a key in the study's files that nothing else has: Hydra takes it, and the arms would be run without it."""
    known = known_keys(skip=("grid", "experiment")) | {"study", "report"} | {f"report.{key}" for key in REPORT}
    known |= {key.rpartition(".")[0] for key in known}  # what holds a key, where a file puts that into it
    for path in (CONF / "experiment" / f"{experiment}.yaml", *sorted((CONF / "grid" / experiment).glob("*.yaml"))):
        found: set[str] = set()
        content = yaml.safe_load(path.read_text())
        _check_swept(content, f"{path.resolve()}: ")
        _collect(content, "", found)
        for key in sorted(found - known):
            near = difflib.get_close_matches(key, sorted(known), n=2, cutoff=0.6)
            did_you = f" Did you mean {' or '.join(near)}?" if near else ""
            raise UserError(f"{path.resolve()}: {key} is not a setting of pathssl.{did_you}")


def _check_swept(content: object, where: str) -> None:
    """UserError for values of hydra.sweeper.params that are one value to Hydra and look like several, or name no option."""
    for key, values in _params(content).items():
        if isinstance(values, list):
            words = ",".join(_typed(value) for value in values)
            raise UserError(
                f"{where}hydra.sweeper.params has a list for {key}, which would be the value of one run: write {key}: {words} for a run "
                f'with each of them (or {key}: "[{words}]", if every run is to have the list).'
            )
        if (CONF / str(key)).is_dir():
            for word in _typed(values).split(","):
                if re.fullmatch(_NO_OPTION, word.strip(), re.IGNORECASE):
                    _check_option(key, word.strip(), where)


def _typed(value: object) -> str:
    """As a command line has it."""
    if isinstance(value, list):
        return f"[{','.join(map(_typed, value))}]"
    return value if isinstance(value, str) else json.dumps(value)


def check_whole(arguments: Sequence[str]) -> None:
    """UserError for a study without -m that names none of its arms: it would be one run more in the study's folder, of no arm."""
    names = [argument.partition("=")[2] for argument in arguments if argument.startswith("experiment=")]
    if not names or any(argument.startswith("-") for argument in arguments):
        return
    factors = _swept(names[-1])
    typed = {argument.partition("=")[0].lstrip("+") for argument in arguments}
    missing = [factor for factor in factors if factor not in typed and factor != "seed"]
    if missing:
        arm = " ".join(f"{key}={str(values).split(',')[0]}" for key, values in factors.items())
        raise UserError(
            f"experiment={names[-1]} is a study of several runs, and {missing[0]} is what its arms differ in: add -m for all of them, or "
            f"name one, as in experiment={names[-1]} {arm}"
        )


def _swept(experiment: str) -> dict[str, Any]:
    return _params(yaml.safe_load((CONF / "experiment" / f"{experiment}.yaml").read_text()))


def _params(content: object) -> dict[str, Any]:
    """hydra.sweeper.params of a study's file."""
    for key in ("hydra", "sweeper", "params"):
        content = content.get(key) if isinstance(content, dict) else None
    return content if isinstance(content, dict) else {}


def suggestions(arguments: Sequence[str]) -> list[str]:
    """A sentence for each override among `arguments` whose key no file of conf/ has."""
    known = known_keys()
    sentences = []
    for argument in arguments:
        match = re.match(r"[+~]*([A-Za-z_][\w./@-]*)=", argument)
        if match and match[1] not in known and not match[1].startswith("hydra"):
            near = difflib.get_close_matches(match[1], sorted(known), n=3, cutoff=0.6)
            did_you = (
                f"Did you mean {' or '.join(near)}?" if near else "`python train.py --cfg job` shows all settings."
            )
            sentences.append(f"{match[1]} is not a setting of pathssl. {did_you}")
    return sentences


def known_keys(skip: Sequence[str] = ()) -> set[str]:
    """Every group and every dotted key that some option of conf/ has, without those of the groups `skip`."""
    keys = {
        path.name for path in CONF.iterdir() if path.is_dir()
    }  # conf/experiment is a link, which rglob does not follow
    for path in sorted(CONF.rglob("*.yaml")):
        parts = path.relative_to(CONF).parts
        if parts[0] in skip:
            continue
        text = path.read_text()
        package = re.match(r"# @package (\S+)", text)
        prefix = "/".join(parts[:-1]).replace("/", ".")
        if package:
            prefix = "" if package[1] == "_global_" else package[1]
        if len(parts) > 1:
            keys.add("/".join(parts[:-1]))
        prefix, content = f"{prefix}." if prefix else "", yaml.safe_load(text)
        _collect(content, prefix, keys)
        for group, place, option in _placed(content):
            keys.add(f"{prefix}{place}")
            _collect(yaml.safe_load((CONF / group / f"{option}.yaml").read_text()), f"{prefix}{place}.", keys)
    return keys


def _placed(content: object) -> Iterator[tuple[str, str, str]]:
    """(group, place, option) of the options that a file puts elsewhere, as in `/cohort@data.cohort: default`."""
    for line in content.get("defaults", []) if isinstance(content, dict) else []:
        for name, option in line.items() if isinstance(line, dict) else []:
            if match := re.fullmatch(r"/(\w+)@([\w.]+)", name):
                yield match[1], match[2], option


def _collect(node: object, prefix: str, keys: set[str]) -> None:
    if isinstance(node, dict):
        for key, value in node.items():
            if key not in ("defaults", "hydra", "_target_"):
                keys.add(f"{prefix}{key}")
                _collect(value, f"{prefix}{key}.", keys)


def task_options() -> list[str]:
    """The options of `task` that are a task of their own name, and no list of several."""
    files = sorted((CONF / "task").glob("*.yaml"))
    return [file.stem for file in files if file.read_text().startswith(f"# @package task.{file.stem}\n")]

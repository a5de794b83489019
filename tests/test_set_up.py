"""The set-up files agree with one another."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]


def _constraints() -> dict[str, str]:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    return {name.lower().replace("_", "-"): version for name, version in (line.split("==") for line in lines)}


def _pip_lines() -> list[str]:
    text = (ROOT / "environment.yml").read_text()
    packages = yaml.safe_load(text)["dependencies"]
    return next(entry["pip"] for entry in packages if isinstance(entry, dict))


def test_the_pip_pins_of_environment_yml_equal_the_constraints():
    constraints, checked = _constraints(), 0
    for line in _pip_lines():
        if "==" in line:
            name, version = re.fullmatch(r"([\w.-]+)(?:\[[\w,]+\])?==([\w.]+)", line).groups()
            assert constraints[name.lower().replace("_", "-")] == version, name
            checked += 1
    assert checked > 15


def test_every_dependency_is_pinned_in_constraints_and_environment():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {re.match(r"[\w.-]+", line)[0].lower() for line in project["dependencies"]}
    assert names <= set(_constraints())
    assert names <= {re.match(r"[\w.-]+", line)[0].lower() for line in _pip_lines()}


def test_every_pip_line_of_environment_yml_says_why():
    lines = (ROOT / "environment.yml").read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line.strip() == "- pip:")
    for line in lines[start + 1 :]:
        if line.strip().startswith("- "):
            assert re.search(r"  # \S+", line), f"no reason: {line}"


def test_what_tests_and_notebooks_need_is_pinned_in_both():
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["dev"]
    names = {re.match(r"[\w.-]+", line)[0].lower() for line in extra}
    assert names <= set(_constraints())
    assert names <= {re.match(r"[\w.-]+", line)[0].lower() for line in _pip_lines()}


def test_the_citation_is_of_this_version_and_licence():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    readme = (ROOT / "README.md").read_text()
    assert {"cff-version", "message", "title", "authors"} <= cited.keys()  # those that the format asks for
    assert (cited["version"], cited["license"]) == (project["version"], project["license"])
    assert f"title   = {{{cited['title']}}}" in readme and f"version = {{{cited['version']}}}" in readme


def test_make_help_lists_every_target():
    listed = subprocess.run(["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {line.split()[0] for line in listed.splitlines()} == {"help", "env", "demo", "test", "test-slow", "lint"}


def test_a_missing_python_is_said_in_a_sentence():
    done = subprocess.run(
        ["make", "-s", "--always-make", ".venv/.installed", "PYTHON=no-such-python"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0 and "needs Python 3.11" in done.stderr and "no-such-python" in done.stderr


@pytest.mark.parametrize("path", ["conf", "experiments"])
def test_every_config_file_opens_with_what_it_is(path):
    for file in sorted((ROOT / path).rglob("*.yaml")):
        lines = file.read_text().splitlines()
        first = lines[1] if lines[0].startswith("# @package") else lines[0]  # Hydra wants its own line first
        assert first.startswith("# ") and len(first) > 20, file

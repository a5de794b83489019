"""A model card: what a run's encoder is, what it was trained on and how, and what its probes say. Markdown with YAML in front."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from pathssl.probe_records import read_rows
from pathssl.records import arm_of, read_copies, read_coverage, read_json, read_leaks
from pathssl.report import words
from pathssl.report.leaks import MARK, copies_text, is_of, leaks_text

# What made the encoder: the groups of the config that the card gives in full.
_RECIPE = ("seed", "model", "init", "objective", "teacher", "optim", "schedule", "batch", "augmentation")
_RECIPE += ("magnification", "patch_filter", "resolution", "region")
_RANDOM = "random weights"
_PACKAGES = ("torch", "timm", "numpy", "safetensors", "openslide-python", "tifffile")
UNKNOWN_LICENCE = "unknown; see the slides' terms"


def model_card(
    run: Path,
    config: Mapping[str, Any],
    *,
    step: int,
    name: str,
    licence: str | None,
    folder: str,
    parameters: int,
    features: int,
) -> str:
    """The text of README.md.

    config: the run's. licence: as the Hub names it; None where nobody said. folder: the name of the export's folder, for the line that
    loads it. parameters, features: how many the encoder has, and gives for an image.
    """
    front = {
        "license": licence or "unknown",
        "library_name": "timm",
        "pipeline_tag": "image-feature-extraction",
        "tags": ["timm", "pathology", "histology", "self-supervised-learning", _objective(config).lower(), "pathssl"],
    }
    sections = {
        "": _what(run, config, step, parameters, features),
        "How to load it": _how(config, folder, features),
        "Data": _data(run, config, step),
        "Recipe": _recipe(config, step),
        "Probes": _probes(run, step),
        "Code": _code(run),
        "Intended use and limits": _LIMITS,
        "Licence": licence or f"{UNKNOWN_LICENCE[0].upper()}{UNKNOWN_LICENCE[1:]}.",
    }
    text = f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---\n\n# {name}\n"
    return text + "".join(f"\n## {title}\n\n{body}\n" if title else f"\n{body}\n" for title, body in sections.items())


_LIMITS = """For research: features of patches of histology, for models that are trained and evaluated on top of them. It is not a
medical device, and not for diagnosis or any other decision about a patient.

The features carry what the slides had: their organs, stains, scanners and laboratories. The probes above are small, and say nothing
about other tissue, other scanners or other magnifications: measure it on your own data before you rely on it."""


def _objective(config: Mapping[str, Any]) -> str:
    return config["objective"]["_target_"].rpartition(".")[2]


def _what(run: Path, config: Mapping[str, Any], step: int, parameters: int, features: int) -> str:
    made = (
        f"trained with {_objective(config)} on patches of whole-slide images, without labels"
        if step
        else "untrained"
        if _initialisation(config["init"]) == _RANDOM
        else "as it was loaded"
    )
    start = _initialisation(config["init"])
    return (
        f"A vision transformer for histology, {made}: timm's `{config['model']['name']}` with {parameters / 1e6:.1f} M parameters, "
        f"which maps a patch to {features} numbers (the CLS token after the last norm). It started from {start}. It is the teacher, a "
        f"moving average of the student, at step {step} of the run `{config['study']}/{arm_of(run)}/seed{config['seed']}` of pathssl."
    )


def _initialisation(init: Mapping[str, Any]) -> str:
    if init["path"] is not None:
        return f"the weights in `{Path(init['path']).name}`"
    if init.get("name") is not None:
        return f"the weights that are published as `{init['name']}`, whose terms hold too"
    return "timm's pretrained weights, whose terms hold too" if init["pretrained"] else _RANDOM


def _how(config: Mapping[str, Any], folder: str, features: int) -> str:
    size, look = config["resolution"]["global_px"], config["augmentation"]
    asked = config["magnification"]
    mpp = " or ".join(f"{value:g}" for value in asked["mpp"])
    if asked.get("continuous"):
        mpp = f"{asked['mpp'][0]:g} to {asked['mpp'][-1]:g}"
    return f"""```python
import timm

model = timm.create_model("local-dir:{folder}", pretrained=True).eval()
features = model(images)  # (B, 3, {size}, {size}) -> (B, {features})
```

Other sizes of image are taken too, in whole patches of the model. Give it patches at {mpp} µm per pixel, as RGB between 0 and 1, less the
mean {look["mean"]} and over the deviation {look["std"]}. `timm.data.create_transform(**timm.data.resolve_model_data_config(model))`
does so with an image of Pillow's, after resampling it to {size} px; what is cut at {size} px keeps its magnification."""


def _data(run: Path, config: Mapping[str, Any], step: int) -> str:
    data = read_json(run / "data.json")
    if data is None:
        return "The run has no data.json: what it was trained on is not known."
    origin = " Synthetic slides, drawn by pathssl." if config["data"]["path"] is None else ""
    paragraphs = [
        f"{words.plural(data['slides'], 'slide')} of {words.plural(data['cases'], 'case')} and {words.plural(data['sites'], 'site')} with "
        f"{words.quantity(data['tissue_mm2'])} mm² of tissue, of which {data['training_slides']} were trained on and "
        f"{len(data['held_out'])} were held out; {len(data['quarantined'])} more could not be used.{origin}"
    ]
    coverage = read_coverage(run)
    if coverage is not None and step:
        rows = ["| magnification | patches | slides | cases | sites | tissue, mm² | read, mm² | times over |"]
        rows += ["|---|---:|---:|---:|---:|---:|---:|---:|"]
        for row in coverage["magnifications"]:
            cells = [words.magnification(row["mpp"]), words.count(row["patches"])]
            cells += [f"{row['slides']} of {row['usable_slides']}", str(row["cases"]), str(row["sites"])]
            cells += [words.quantity(row[key]) for key in ("tissue_mm2", "read_mm2", "times_over")]
            rows.append(f"| {' | '.join(cells)} |")
        paragraphs += [f"What was seen up to step {coverage['step']}:", "\n".join(rows)]
    return "\n\n".join(paragraphs)


def _recipe(config: Mapping[str, Any], step: int) -> str:
    batch, derived = config["batch"]["size"], config["derived"]
    momentum = [f"{derived[key]:.6g}" for key in ("teacher_momentum", "final_teacher_momentum")]
    views = config["augmentation"]
    rows = {
        "objective": _objective(config),
        "steps": f"{words.count(step)} of {words.count(derived['total_steps'])}",
        "batch": f"{words.count(batch)} patches",
        "patches seen": f"{words.count(step * batch)} of {words.count(derived['patches'])}",
        "learning rate": f"{derived['lr']:.3g} at its highest, {config['schedule']['final_lr']:.3g} at the end",
        "teacher momentum": " to ".join(dict.fromkeys(momentum)),
        "precision": derived["precision"],
        "augmentation": f"views of {views['global_px']} px, and {views['local_crops']} of {views['local_px']} px; see below",
    }
    table = "\n".join(["| | |", "|---|---|", *(f"| {key} | {value} |" for key, value in rows.items())])
    full = {key: config[key] for key in _RECIPE if key in config}
    if full["init"]["path"] is not None:  # a place on somebody's machine
        full["init"] = {**full["init"], "path": Path(full["init"]["path"]).name}
    return f"{table}\n\nAll settings:\n\n```yaml\n{yaml.safe_dump(full, sort_keys=False, allow_unicode=True, width=120)}```"


def _probes(run: Path, step: int) -> str:
    measured = {row["step"]: _results(row) for row in read_rows(run)}
    now, null, leaks = measured.get(step, {}), measured.get(0, {}), read_leaks(run)
    if not now:
        return f"Step {step} was not probed."
    columns = [now] if step == 0 else [now, null]
    lines = ["| | step 0, the null |" if step == 0 else f"| | step {step} | step 0, the null |"]
    lines += ["|---|" + "---:|" * len(columns)]
    for key in {**now, **null}:  # those of colour histograms stand at step 0 alone
        mark = f", {MARK}" if is_of(key, leaks) else ""
        lines.append(f"| {words.full_title(key)}{mark} | {' | '.join(_cell(column.get(key)) for column in columns)} |")
    note = "Step 0 is the encoder before training; rows of colour histograms are the same probes on colours alone, without an encoder."
    warnings = [line for text in (*leaks_text(leaks), *copies_text(read_copies(run))) for line in (f"**{text}**", "")]
    return "\n".join([*warnings, note, "", *lines])


def _results(row: Mapping[str, Any]) -> dict[str, float | None]:
    return {key: value for key, value in row.items() if key.startswith(("probe/", "unsupervised/"))}


def _cell(value: float | None) -> str:
    return "—" if value is None else words.number(value, words.decimals([abs(value)]))


def _code(run: Path) -> str:
    environment = read_json(run / "environment.json")
    if environment is None:
        return "The run has no environment.json: its code and packages are not known."
    changed = " with changes that were not committed" if environment["diff"] else ""
    commit = f"commit `{environment['commit']}`{changed}" if environment["commit"] else "no commit known"
    packages = [f"{key} {environment['packages'][key]}" for key in _PACKAGES if key in environment["packages"]]
    return f"pathssl, {commit}; Python {environment['python']}, {', '.join(packages)}."

"""Where two finished runs of one config differ: to the bit, or in their losses by more than rounding."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from pathssl.errors import UserError
from pathssl.probe_records import read_probes
from pathssl.records import read_coverage, read_metrics
from pathssl.training.checkpoints import STATE, TEACHER, Checkpoints, load_state

# Of a row of metrics.jsonl: what a clock and the machine say.
_MEASURED = ("time_s", "probe_time_s", "train/patches_per_s", "train/data_wait", "train/memory_gib")


@dataclass(frozen=True)
class Compared:
    """`count` things of a kind (`what`, in the plural), of which `different` differ; `first`: the first of these, in words."""

    what: str
    count: int
    different: int
    first: str | None


def compare(run: Path, reference: Path) -> list[Compared]:
    """All that `reference` holds against what `run` holds, bit for bit; in the order in which a fault would show."""
    state, expected = last_state(run), last_state(reference)
    rows, expected_rows = _rows(run), _rows(reference)
    return [
        same_patches(run, reference),
        _compared(
            "numbers of the steps (losses, gradient norms, ...)", _trained(rows), _trained(expected_rows), _number
        ),
        _compared("tensors of student and teacher", state["objective"], expected["objective"], _tensor),
        _compared("tensors of the optimiser", _flat(state["optimiser"]), _flat(expected["optimiser"]), _tensor),
        _compared("tensors of the kept teachers", _teachers(run, reference), _teachers(reference, reference), _tensor),
        _compared("results of probes", _probed(run), _probed(reference), _number),
    ]


def same_patches(run: Path, reference: Path) -> Compared:
    """Whether both saw the same patches at the same steps."""
    seen, expected = (read_coverage(folder) or {} for folder in (run, reference))
    digests = {"digest": seen.get("digest")}, {"digest": expected.get("digest")}
    compared = _compared("digests", *digests, _number)
    count = expected["total"]["patches"]
    return Compared("patches by step, slide, place and seed", count, count * compared.different, compared.first)


def compare_losses(run: Path, reference: Path, tolerance: float) -> tuple[Compared, float]:
    """The losses of the steps, of which those differ that are further apart than `tolerance` times the loss; the greatest such ratio."""
    losses, expected = ({row["step"]: row.get("train/loss") for row in _rows(folder)} for folder in (run, reference))
    if losses.keys() != expected.keys():
        return _compared("losses of the steps", losses, expected, _number), float("inf")
    pairs = {step: (loss, expected[step]) for step, loss in losses.items() if step > 0}
    ratios = {
        step: abs(a - b) / max(abs(a), abs(b), 1e-30) if None not in (a, b) else float("inf")
        for step, (a, b) in pairs.items()
    }
    apart = [step for step, ratio in ratios.items() if ratio > tolerance]
    first = f"of step {apart[0]}: {_number(*pairs[apart[0]])}" if apart else None
    return Compared("losses of the steps", len(pairs), len(apart), first), max(ratios.values())


def last_state(run: Path) -> Mapping[str, Any]:
    """The training state that a finished run holds."""
    checkpoints = Checkpoints(run)
    if not checkpoints.steps():
        raise UserError(f"{run} holds no checkpoint.")
    return load_state(checkpoints.path(checkpoints.steps()[-1]) / STATE)


def _compared(what: str, found: Mapping, expected: Mapping, say: Any) -> Compared:
    """say(one, other) tells in words how two things under the same name differ, and None where they do not."""
    differences = list(_differences(found, expected, say))
    return Compared(what, len(expected), len(differences), differences[0] if differences else None)


def _differences(found: Mapping, expected: Mapping, say: Any) -> Iterator[str]:
    for name in [*expected, *(name for name in found if name not in expected)]:
        if name not in expected or name not in found:
            yield f"{name} is missing {'there' if name in found else 'here'}"
        elif (words := say(found[name], expected[name])) is not None:
            yield f"{name}: {words}"


def _number(one: object, other: object) -> str | None:
    return None if one == other else f"{one} here, {other} there"


def _tensor(one: object, other: object) -> str | None:
    if not isinstance(one, torch.Tensor) or not isinstance(other, torch.Tensor):
        return _number(one, other)
    if (one.shape, one.dtype) != (other.shape, other.dtype):
        return f"{one.dtype} {tuple(one.shape)} here, {other.dtype} {tuple(other.shape)} there"
    # As bytes: NaN equals itself there, and 0 is not -0.
    bytes_of_one, bytes_of_other = (tensor.reshape(-1).view(torch.uint8) for tensor in (one, other))
    if torch.equal(bytes_of_one, bytes_of_other):
        return None
    apart = (one.double() - other.double()).abs()
    return f"differs in {int((one != other).sum())} of {one.numel()} elements, by up to {apart.max().item():.3g}"


def _rows(run: Path) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key not in _MEASURED} for row in read_metrics(run)]


def _trained(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Every number of every row by name. A step that stands twice, or in another place, is seen."""
    numbers = {"steps that have a row": [row["step"] for row in rows]}
    return numbers | {f"{key} of step {row['step']}": value for row in rows for key, value in row.items()}


def _flat(optimiser: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {f"{key} of {name}": value for name, kept in optimiser.items() for key, value in kept.items()}


def _teachers(run: Path, reference: Path) -> dict[str, torch.Tensor]:
    """The teachers of those checkpoints that `reference` kept. A run that was stopped may have kept one more."""
    checkpoints, tensors = Checkpoints(run), {}
    for step in sorted({*checkpoints.steps()} & {*Checkpoints(reference).steps()}):
        loaded = load_file(checkpoints.path(step) / TEACHER)
        tensors |= {f"{name} of step {step}": tensor for name, tensor in loaded.items()}
    return tensors


def _probed(run: Path) -> dict[str, float]:
    return {
        f"{probe['task']}/{name} of step {probe['step']}": value
        for probe in read_probes(run)
        for name, value in probe["results"].items()
    }

"""How numbers, metrics and arms are written for people."""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # it brings SciPy, a second that `status` need not wait
    from pathssl.report.statistics import Estimate

_NAMES = {
    "rankme": "RankMe",
    "odcorr": "ODCorr",
    "apart": "distance between patches",
    "auroc": "AUROC",
    "f1": "F1",
    "dice": "Dice",
    "miou": "mIoU",
    "knn": "k-NN",
    "seg_linear": "linear segmentation",
    "seg_conv": "convolutional segmentation",
    "patches_per_s": "patches per second",
}

_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

VERDICTS = {"higher": "higher", "lower": "lower", "same": "cannot be told apart", "open": "no verdict"}


def name(part: str) -> str:
    """A part of a metric's key in words: `balanced_accuracy` -> balanced accuracy."""
    return _NAMES.get(part, part.replace("_", " "))


def title(key: str) -> str:
    """The measure alone, capitalised: Balanced accuracy."""
    words = name(key.rsplit("/", 1)[-1])
    return words[0].upper() + words[1:]


def context(key: str) -> str:
    """Where it was measured: `probe/synthetic/linear/test/balanced_accuracy` -> synthetic, linear, test."""
    kind, *middle, _ = key.split("/")
    if kind == "unsupervised":
        return "unlabelled held-out patches"
    return ", ".join(name(part) for part in middle) if middle else "training"


def full_title(key: str) -> str:
    """Measure and place in a sentence: balanced accuracy (synthetic, linear, test)."""
    return f"{name(key.rsplit('/', 1)[-1])} ({context(key)})"


def decimals(sizes: Iterable[float]) -> int:
    """Decimals for numbers of these sizes, none negative: 0.812, 4.07, 23.5, 1210."""
    largest = max(sizes, default=0.0)
    return 3 if largest < 2 else 2 if largest < 10 else 1 if largest < 1000 else 0


def number(value: float, digits: int) -> str:
    """With a true minus sign, which a number that rounds to zero has not."""
    return f"{value:z.{digits}f}".replace("-", "−")


def signed(value: float, digits: int) -> str:
    """With its sign, as differences and gains are written."""
    return f"{'' if value < 0 else '+'}{number(value, digits)}"


def interval(estimate: "Estimate", digits: int) -> str:
    """0.812 [0.790, 0.834], or the value alone where there is no interval."""
    return _bracketed(estimate, number, digits)


def change(estimate: "Estimate", digits: int) -> str:
    """+0.012 [−0.050, +0.070], or the value alone where there is no interval."""
    return _bracketed(estimate, signed, digits)


def effect(size: float | None) -> str:
    """A difference in standard deviations, as +1.2; — where it is not known."""
    return "—" if size is None else signed(size, 1)


def probability(p: float) -> str:
    """With its sign, as in "= 0.031" and "< 0.001"."""
    return "< 0.001" if p < 0.001 else f"= {p:.3f}" if p < 0.1 else f"= {p:.2f}"


def count(value: float) -> str:
    """A whole number with thin spaces: 12 800."""
    return f"{value:,.0f}".replace(",", "\u202f")


def compact(value: float) -> str:
    """A tick's label: 0, 500, 20k, 1.5M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}".replace("-", "−")


def magnification(mpp: float | Sequence[float] | None) -> str:
    """0.5 µm/px (20×), as a scanner's objective of 10 / mpp would give it; 0.25–0.5 µm/px (40–20×) for an interval; None: all together."""
    if mpp is None:
        return "all"
    ends = [mpp] if isinstance(mpp, int | float) else mpp
    return f"{'–'.join(f'{m:g}' for m in ends)} µm/px ({'–'.join(f'{10 / m:.3g}' for m in ends)}×)"


def quantity(value: float) -> str:
    """Of any size, in three digits or, from 1 000 on, whole: 0.12, 3.5, 47.1, 1 830."""
    if value >= 999.5:
        return count(value)
    return f"{value:.3g}"


def powered(value: float) -> str:
    """In three digits and a power of ten: 5.98 × 10¹²."""
    digits, _, power = f"{value:.2e}".partition("e")
    return f"{digits} × 10{str(int(power)).translate(_RAISED)}" if int(power) else digits


def mean_count(value: float) -> str:
    """A count, or a mean of counts, which may be broken: 24, 23.7."""
    return count(value) if value == round(value) else f"{value:,.1f}".replace(",", "\u202f")


def plural(n: int, noun: str) -> str:
    """1 seed, 2 seeds."""
    return f"{n} {noun}{'' if n == 1 else 's'}"


def common_overrides(arms: list[str]) -> list[str]:
    """The overrides that all arms share and that their names need not repeat; [] where a name would be left empty."""
    parts = [arm.split(",") for arm in arms]
    common = [part for part in parts[0] if all(part in other for other in parts)]
    return common if len(arms) > 1 and all(set(own) - set(common) for own in parts) else []


def distinct_names(arms: list[str]) -> dict[str, str]:
    """Each arm without what all share: `model=vits16,teacher=m0.9` -> teacher=m0.9."""
    common = common_overrides(arms)
    return {arm: ",".join(part for part in arm.split(",") if part not in common) for arm in arms}


def all_share(arms: list[str]) -> str | None:
    """What `distinct_names` leaves out, in a sentence; None where it is nothing."""
    common = common_overrides(arms)
    return (
        f"All arms share {','.join(common)}: their names here leave it out, and those in CSV files keep it."
        if common
        else None
    )


def short_names(arms: list[str]) -> dict[str, str]:
    """For labels in charts: the value alone where one override makes the arms: teacher=m0.9 -> m0.9."""
    names = distinct_names(arms)
    keys = {name.partition("=")[0] for name in names.values()}
    one_override = len(keys) == 1 and all(name.count("=") == 1 and "," not in name for name in names.values())
    return {arm: name.partition("=")[2] if one_override else name for arm, name in names.items()}


def _bracketed(estimate: "Estimate", write: Callable[[float, int], str], digits: int) -> str:
    value = write(estimate.value, digits)
    if estimate.low is None:
        return value
    low, high = (_end(end, write, digits) for end in (estimate.low, estimate.high))
    return f"{value} [{low}, {high}]"


def _end(value: float, write: Callable[[float, int], str], digits: int) -> str:
    """An interval's end; a small negative one stays −0.000: an interval that holds zero, or leaves it out, must look like one."""
    text = write(value, digits)
    return f"−{text}" if value < 0 and not text.startswith("−") else text


def duration(hours: float) -> str:
    """45 s, 12 min, 3.4 h, 2.1 days."""
    for size, unit in ((48.0, "days"), (1.0, "h"), (1 / 60, "min")):
        if hours >= size:
            length = hours / (24.0 if unit == "days" else size)
            return f"{length:.0f} {unit}" if unit == "min" else f"{length:.1f} {unit}"
    return f"{hours * 3600:.0f} s"

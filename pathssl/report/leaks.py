"""Marks and sentences for tasks that are tested on what was trained on, or on copies of their own images."""

from collections.abc import Collection, Mapping, Sequence

from pathssl.report import words

MARK = "tested on what was trained on"
Overlaps = Mapping[str, Sequence[dict]]  # by task: [{"kind", "name", "images"}]


def is_of(key: str, tasks: Collection[str]) -> bool:
    """Whether a metric is of one of these tasks."""
    return key.startswith("probe/") and key.split("/")[1] in tasks


def leaks_text(leaks: Overlaps, where: Mapping[str, str] | None = None) -> list[str]:
    """A sentence for each task that was trained on in part. where: by task, in which arms, if not in all."""
    return [_leak_text(task, found, (where or {}).get(task, "")) for task, found in sorted(leaks.items())]


def _leak_text(task: str, found: Sequence[dict], where: str) -> str:
    named, first = f"Task {task} is {MARK}{where and f' in {where}'}", found[0]
    if first["kind"] == "weights":
        why = f"the weights {first['name']} were trained on its images, as leakage.trained_on says"
    else:
        why = f"{words.plural(_images(found), 'image')} of it, the first by {first['kind']} {first['name']} ({first['images'][0]})"
    return f"{named}: {why}. Its numbers are marked and say little; leakage.json has all."


def copies_text(copies: Overlaps) -> list[str]:
    """A sentence for each task that has images in one split that show what images of another show."""
    return [
        f"Task {task} has copies between its own splits: {words.plural(_images(found), 'image')} in one split show what "
        f"{words.plural(len(found), 'image')} in another show, the first {found[0]['images'][0]} and {found[0]['name']}. "
        "As far as they go, its numbers are of memory; leakage.json has all."
        for task, found in sorted(copies.items())
    ]


def _images(found: Sequence[dict]) -> int:
    return len({image for one in found for image in one["images"]})

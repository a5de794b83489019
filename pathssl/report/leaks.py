"""Marks and sentences for tasks that are tested on what was trained on, or on copies of their own images."""

from collections.abc import Collection, Mapping, Sequence

from pathssl.report import words

MARK = "tested on what was trained on"
Overlaps = Mapping[str, Sequence[dict]]  # by task: [{"kind", "name", "images"}]


def is_of(key: str, tasks: Collection[str]) -> bool:
    """Whether a metric is of one of these tasks."""
    return key.startswith("probe/") and key.split("/")[1] in tasks


def leaks_text(leaks: Overlaps) -> list[str]:
    """A sentence for each task that was trained on in part."""
    return [
        f"Task {task} is {MARK}: {words.plural(_images(found), 'image')} of it, the first by {found[0]['kind']} {found[0]['name']} "
        f"({found[0]['images'][0]}). Its numbers are marked and say little; leakage.json has all."
        for task, found in sorted(leaks.items())
    ]


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

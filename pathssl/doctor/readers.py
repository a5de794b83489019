"""Readers: each decodes a small slide in a process of its own, and all must see the same pixels."""

import hashlib
import tempfile
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path

from pathssl.doctor.check import UNLOADABLE, Check, ask_worker
from pathssl.doctor.machine import CUCIM, INSTALL, version
from pathssl.worker import WorkerDied

READERS = ("cucim", "openslide", "tifffile")
WORK = "pathssl.doctor.readers:work"  # what a process runs
LIMIT_S = 90.0  # importing from a slow file system may take most of it
_NAMES = {"cucim": "cuCIM", "openslide": "OpenSlide", "tifffile": "tifffile"}
_PACKAGES = {"openslide": ("openslide-python", "openslide-bin"), "tifffile": ("tifffile", "imagecodecs")}
_INSTALL_CUCIM = 'pip install click lazy-loader && pip install --no-deps "$(grep ^cucim-cu13 constraints.txt)" (Linux; no GPU is needed)'
_SIDE_PX, _MPP = 1024, 0.5


def readers() -> list[Check]:
    """One check a reader, and one of whether their pixels agree."""
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(len(READERS)) as pool:
        try:
            slide = _write_slide(Path(folder) / "slide.tif")
        except UNLOADABLE as error:
            return [Check("readers", "broken", f"a slide to try them on cannot be written: {error}", f"{INSTALL}.")]
        seen = dict(zip(READERS, pool.map(lambda reader: _ask(slide, reader), READERS), strict=True))
    checks = [_cucim(*seen["cucim"]), *(_other(name, *seen[name]) for name in READERS[1:])]
    hashes = {name: found for name, (state, found) in seen.items() if state == "decoded"}
    if len(set(hashes.values())) > 1:
        found = f"{', '.join(map(_NAMES.get, hashes))} decode the same JPEG tiles to different pixels"
        remedy = "Name one reader for all runs of a study (data.reader=openslide), or install the versions of constraints.txt."
        checks.append(Check("pixels", "warning", found, remedy))
    elif len(hashes) > 1:
        checks.append(Check("pixels", "ok", f"{', '.join(map(_NAMES.get, hashes))} give the same pixels, to the byte"))
    return checks


def _write_slide(path: Path) -> Path:
    import numpy as np

    from pathssl.slides.synthetic.pyramid import write_pyramid

    y, x = np.mgrid[:_SIDE_PX, :_SIDE_PX]
    waves = (128 + 100 * np.sin(x / 9 + channel) * np.sin(y / 13 + 2 * channel) for channel in range(3))
    write_pyramid(path, np.stack([wave.astype(np.uint8) for wave in waves], axis=-1), _MPP)
    return path


def _ask(slide: Path, reader: str) -> tuple[str, str]:
    """("decoded", hash of the pixels), ("refused", why not), or ("died", how)."""
    try:
        return ask_worker(WORK, (slide, reader), LIMIT_S)
    except WorkerDied as death:
        return "died", f"reading a slide ends the process ({death})"
    except TimeoutError as error:
        return "died", f"reading a slide hangs ({error})"


def work(connection: Connection) -> None:
    """Answers (slide, reader) with what `_ask` returns."""
    slide, reader = connection.recv()
    try:
        from pathssl.slides import cucim_reader
        from pathssl.slides.fault import SlideError
        from pathssl.slides.slide import open_slide
    except UNLOADABLE as error:
        connection.send(("refused", f"{error}"))
        return
    usable, reason = cucim_reader.available() if reader == "cucim" else (True, "")
    if not usable:
        connection.send(("refused", reason))
        return
    try:
        opened = open_slide(slide, None, reader)
        windows = [opened.read(*corner, mpp, 300) for corner, mpp in (((130, 77), _MPP), ((200, 100), 2 * _MPP))]
        opened.close()
    except (SlideError, OSError) as error:
        connection.send(("refused", str(error).removeprefix(f"{slide}: ")))
        return
    connection.send(("decoded", hashlib.sha256(b"".join(window.tobytes() for window in windows)).hexdigest()))


def _cucim(outcome: str, found: str) -> Check:
    installed = next((f"{name} {there}" for name in CUCIM if (there := version(name)) is not None), None)
    costs = "without it OpenSlide reads, at about 40 % of the speed (python -m pathssl bench loader measures it)"
    if outcome == "decoded":
        return Check("cuCIM", "ok", f"{installed or 'installed'} decodes a tiled JPEG slide")
    if installed is None and outcome == "refused":
        return Check("cuCIM", "absent", f"{found}; {costs}", f"{_INSTALL_CUCIM}.")
    if outcome == "refused":
        found = f"{installed} cannot be used: {found}; {costs}"
        return Check("cuCIM", "warning", found, f"Reinstall it: {_INSTALL_CUCIM}.")
    remedy = f"pip uninstall {(installed or CUCIM[0]).split()[0]}: pathssl reads with OpenSlide then, at about 40 % of the speed."
    return Check("cuCIM", "broken", f"{installed or 'installed'}, but {found}", remedy)


def _other(reader: str, outcome: str, found: str) -> Check:
    packages = _PACKAGES[reader]
    versions = ", ".join(f"{package} {version(package) or '(missing)'}" for package in packages)
    if outcome == "decoded":
        return Check(_NAMES[reader], "ok", f"{versions} decode a tiled JPEG slide")
    remedy = f"pip install --force-reinstall -c constraints.txt {' '.join(packages)}."
    return Check(_NAMES[reader], "broken", f"{versions}: {found}", remedy)

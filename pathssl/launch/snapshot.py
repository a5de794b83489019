"""The code as it is now, kept in a folder from which jobs run it, however the tree changes later."""

import hashlib
import json
import shutil
from pathlib import Path

from pathssl.environment import code_version
from pathssl.files import atomic_folder, locked

ROOT = Path(__file__).resolve().parents[2]
_PARTS = ("train.py", "pyproject.toml", "pathssl", "conf", "experiments", "hydra_plugins", "slurm/requeue.sh")
_KINDS = (".py", ".yaml", ".toml", ".sh", ".j2", ".css", ".js")


def snapshot(study: Path, root: Path = ROOT) -> Path:
    """STUDY/.code/<hash> with the source of `root`; runs of the same code share one."""
    files = _files(root)
    digest = hashlib.sha256()
    for path in files:
        content = (root / path).read_bytes()
        digest.update(f"{path} {len(content)}\n".encode() + content)
    folder = study.absolute() / ".code" / digest.hexdigest()[:16]
    with locked(folder.parent / ".lock"):
        if not folder.is_dir():
            _copy(root, files, folder)
    return folder


def _files(root: Path) -> list[Path]:
    found = []
    for part in _PARTS:
        path = root / part
        found += [path] if path.is_file() else [file for file in path.rglob("*") if file.suffix in _KINDS]
    return sorted(file.relative_to(root) for file in found if file.is_file())


def _copy(root: Path, files: list[Path], folder: Path) -> None:
    with atomic_folder(folder) as made:
        for path in files:
            (made / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / path, made / path)
        (made / "conf" / "experiment").symlink_to(Path("..") / "experiments")
        (made / "code.json").write_text(json.dumps(code_version(root), indent=1) + "\n")

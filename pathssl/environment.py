"""What a run ran with: code, packages, hardware and command, for environment.json."""

import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any


def describe_environment() -> dict[str, Any]:
    """A JSON-able account; the code's part is null where the package is not in a git checkout."""
    import torch  # here, so that the doors that import this module stay quick

    root = Path(__file__).resolve().parents[1]
    cuda = torch.cuda.is_available()
    return {
        "command": shlex.join([Path(sys.executable).name, *sys.argv]),
        "folder": os.getcwd(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "cpu": cpu_name(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if cuda else [],
        "cuda": torch.version.cuda if cuda else None,
        **code_version(root),
        "slurm_job_id": os.environ.get("SLURM_JOB_ID"),
        "packages": {
            d.name: d.version for d in sorted(importlib.metadata.distributions(), key=lambda d: d.name.lower())
        },
    }


def code_version(root: Path) -> dict[str, str | None]:
    """Its commit, and what differs from it; of a copy made for jobs, as it was when it was made."""
    kept = root / "code.json"
    if kept.is_file():
        return json.loads(kept.read_text())
    return {"commit": _git(root, "rev-parse", "HEAD"), "diff": _git(root, "diff", "HEAD")}


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=20,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def cpu_name() -> str | None:
    """As the processor calls itself."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or None
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), None)

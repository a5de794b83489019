"""GPUs as torch sees them; and whether cuCIM hangs after torch. Both in a process that may be killed."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from typing import Any

from pathssl.doctor.check import Check, last_line, run, within

_TORCH_LIMIT_S = 120.0  # importing torch from a cold network file system
_CUCIM_LIMIT_S = 6.0  # after torch is there; it takes about one
_NVIDIA_SMI_LIMIT_S = 20.0
_PROBE = """
import json, sys, warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import torch
    there = torch.cuda.is_available()
facts = {"torch": torch.__version__, "built_for": torch.version.cuda, "there": there, "gpus": [],
         "said": [str(warning.message) for warning in caught], "nccl": None}
if there:
    try:
        for i in range(torch.cuda.device_count()):
            with torch.cuda.device(i):
                free, total = torch.cuda.mem_get_info()
                torch.ones(64, 64, device="cuda").mm(torch.ones(64, 64, device="cuda")).sum().item()
                bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
                facts["gpus"].append({"name": torch.cuda.get_device_name(i), "total": total, "free": free, "bf16": bf16})
        if torch.distributed.is_available() and torch.distributed.is_nccl_available():
            facts["nccl"] = ".".join(map(str, torch.cuda.nccl.version()))
    except RuntimeError as error:
        facts["fails"] = str(error)
print(json.dumps(facts), flush=True)
from cucim import CuImage
try:
    CuImage("")  # see slides/cucim_reader.py, which this goes past
except ValueError:
    pass
print("loaded", flush=True)
"""


class Probe:
    """A process that looks at the GPUs and then loads cuCIM after torch: begun early, because it takes seconds, and asked later."""

    def __init__(self) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # closed in `close`
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PROBE],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            start_new_session=True,
            env={"CUFILE_LOGFILE_PATH": os.devnull, **os.environ},
        )

    def gpu(self) -> Check:
        """What torch can do here."""
        try:
            line = within(_TORCH_LIMIT_S, lambda: self._line(b"{"))
        except TimeoutError as error:
            return Check("GPU", "broken", f"torch does not say what it sees: {error}", _RESTART)
        if not line:
            why = f"importing torch fails: {self._last_error()}"
            return Check("GPU", "broken", why, "pip install --force-reinstall -c constraints.txt torch torchvision.")
        facts = json.loads(line)
        return _usable(facts) if facts["there"] else _unusable(facts)

    def trap(self) -> Check | None:
        """Whether cuCIM can be loaded after torch, where both are there; asked after `gpu`."""
        try:
            line = within(_CUCIM_LIMIT_S, lambda: self._line(b"loaded"))
        except TimeoutError:
            found = "cuCIM hangs here when it is loaded after torch; pathssl loads it first, and so must you"
            return Check("import order", "ok", found)
        return Check("import order", "ok", "cuCIM may be loaded before or after torch") if line else None

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()
        self._errors.close()

    def _line(self, start: bytes) -> bytes:
        """The next line that begins so (libraries print too); nothing when the process is over."""
        return next((line for line in self._process.stdout if line.startswith(start)), b"")

    def _last_error(self) -> str:
        self._process.wait()
        self._errors.seek(0)
        return last_line(self._errors.read().decode(errors="replace"))


_RESTART = "Look at nvidia-smi, which probably hangs too: the driver needs a restart (or another node)."


def _usable(facts: dict[str, Any]) -> Check:
    gpus = facts["gpus"]
    if "fails" in facts:
        failure = facts["fails"].splitlines()[0]
        remedy = "Another process may hold the GPU (nvidia-smi shows it); 'no kernel image' asks for another build of torch (pytorch.org)."
        return Check("GPU", "broken", f"GPU {len(gpus)} is there, but torch fails on it: {failure}", remedy)
    names = ", ".join(f"{count} x {name}" for name, count in Counter(gpu["name"] for gpu in gpus).items())
    sizes = ", ".join(f"{gpu['free'] / 2**30:.0f} of {gpu['total'] / 2**30:.0f}" for gpu in gpus)
    bf16 = all(gpu["bf16"] for gpu in gpus)
    found = f"{names}; {sizes} GiB free; {'bf16' if bf16 else 'no bf16'}; NCCL {facts['nccl'] or 'missing'}; "
    found += f"torch {facts['torch']} for CUDA {facts['built_for']}"
    if not bf16:
        return Check("GPU", "warning", found, "train.precision=fp32: this GPU computes bf16 slowly or not at all.")
    if facts["nccl"] is None and len(gpus) > 1:
        remedy = "One GPU a run works; several need a torch built with NCCL (pytorch.org)."
        return Check("GPU", "warning", found, remedy)
    return Check("GPU", "ok", found)


def _unusable(facts: dict[str, Any]) -> Check:
    """Why torch sees no GPU, by what NVIDIA's own tool says."""
    built_for, torch = facts["built_for"], facts["torch"]
    if shutil.which("nvidia-smi") is None:
        found = f"none (torch {torch}): enough for small runs, such as make demo"
        remedy = "Where there should be one: install NVIDIA's driver, or ask SLURM for --gres=gpu:1."
        return Check("GPU", "absent", found, remedy)
    well, driver = run(["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"], _NVIDIA_SMI_LIMIT_S)
    if not well or not driver:
        found = f"none that works: nvidia-smi says {last_line(driver)!r}"
        remedy = "As expected on a login node; elsewhere the driver needs a restart or a reinstallation."
        return Check("GPU", "warning", found, remedy)
    found = f"nvidia-smi shows {driver.splitlines()[0]} (name, driver), but torch {torch} sees no GPU"
    if built_for is None:
        remedy = "pip install --force-reinstall torch torchvision (see pytorch.org)."
        return Check("GPU", "broken", f"{found}: it is built for CPUs", remedy)
    if "CUDA_VISIBLE_DEVICES" in os.environ and not any("driver" in said for said in facts["said"]):
        found += f": CUDA_VISIBLE_DEVICES={os.environ['CUDA_VISIBLE_DEVICES']!r} hides it"
        return Check("GPU", "broken", found, "unset CUDA_VISIBLE_DEVICES.")
    said = facts["said"][0].splitlines()[0].split(". ")[0] if facts["said"] else "it does not say why"
    remedy = (
        f"Update the NVIDIA driver to one for CUDA {built_for} (nvidia-smi shows the CUDA that yours can do), or install a build of "
        "torch and torchvision for that CUDA (see pytorch.org)."
    )
    return Check("GPU", "broken", f"{found}, built for CUDA {built_for}: {said}", remedy)

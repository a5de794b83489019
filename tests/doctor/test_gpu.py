import contextlib
import time

import pytest
from fake_files import write_files

from pathssl.doctor import gpu

FACTS = {"torch": "2.15.0", "built_for": "13.0", "there": False, "gpus": [], "said": [], "nccl": None}


GPU = {"name": "H100", "total": 80 * 2**30, "free": 70 * 2**30, "bf16": True}


def test_no_gpu_is_absent_not_broken(programs):
    programs()
    assert gpu._unusable(FACTS).state == "absent"


@pytest.mark.parametrize(
    ("facts", "hidden", "says"),
    [
        (
            {"said": ["The NVIDIA driver on your system is too old (found version 12020). Please"]},
            None,
            "Update the NVIDIA driver",
        ),
        ({"built_for": None}, None, "pip install"),
        ({}, "", "unset CUDA_VISIBLE_DEVICES"),
    ],
)
def test_a_gpu_that_torch_cannot_use_comes_with_the_remedy(facts, hidden, says, programs, monkeypatch):
    programs(nvidia_smi="echo NVIDIA A100, 535.104.05")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if hidden is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    found = gpu._unusable(FACTS | facts)
    assert found.state == "broken" and "535.104.05" in found.found and says in found.remedy


def test_a_driver_that_does_not_answer_is_a_warning(programs):
    programs(nvidia_smi="echo couldn\\'t communicate with the NVIDIA driver; exit 9")
    found = gpu._unusable(FACTS)
    assert found.state == "warning" and "communicate" in found.found and "login node" in found.remedy


@pytest.mark.parametrize(
    ("facts", "state"),
    [
        ({"gpus": [GPU, GPU], "nccl": "2.30.7"}, "ok"),
        ({"gpus": [GPU, GPU]}, "warning"),
        ({"gpus": [GPU | {"bf16": False}], "nccl": "2.30.7"}, "warning"),
        ({"fails": "CUDA error: no kernel image is available\nmore"}, "broken"),
    ],
)
def test_gpus_are_named_with_what_they_lack(facts, state):
    found = gpu._usable(FACTS | {"there": True} | facts)
    assert found.state == state and ("2 x H100; 70 of 80" in found.found) == (len(facts.get("gpus", ())) == 2)


def test_torch_that_cannot_be_imported_is_broken_and_its_last_line_is_said(tmp_path, monkeypatch):
    write_files(tmp_path, {"torch.py": "raise ImportError('libcudart.so.13: no such file')"})
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with contextlib.closing(gpu.Probe()) as probe:
        found = probe.gpu()
        assert found.state == "broken" and "libcudart.so.13" in found.found and probe.trap() is None


def test_a_process_that_hangs_on_loading_cucim_is_left_after_seconds(tmp_path, monkeypatch):
    (tmp_path / "cucim.py").write_text("import time; time.sleep(60)")
    torch = "class cuda:\n    is_available = staticmethod(lambda: False)\nclass version:\n    cuda = None\n__version__ = '0'\n"
    (tmp_path / "torch.py").write_text(torch)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(gpu, "_CUCIM_LIMIT_S", 0.5)
    since = time.monotonic()
    with contextlib.closing(gpu.Probe()) as probe:
        probe.gpu()
        found = probe.trap()
    assert found.state == "ok" and "hangs here" in found.found and time.monotonic() - since < 20

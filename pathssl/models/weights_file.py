"""Files of weights: safetensors, and PyTorch's pickles without running what they say."""

import argparse
import pickle
import re
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from pathssl.errors import UserError

_PICKLED = (".pth", ".pt", ".bin", ".ckpt")
_WRAPPERS = re.compile(r"(^|\.)(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
# What torch.load was seen to raise for cut files, and, below, for garbled ones besides.
_UNREADABLE = (SafetensorError, EOFError, RuntimeError, struct.error, IndexError, OSError)
_UNREADABLE += (ValueError, KeyError, TypeError, AttributeError, AssertionError)


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """All tensors of the file by their dotted names, whatever dictionaries they are in and whatever wrapped their modules.

    A pickle that holds more than tensors and plain values is refused: no code of a file is run.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"There is no weights file {path}.")
    if path.suffix not in (".safetensors", *_PICKLED):
        raise UserError(f"{path} is not a weights file of a known kind: .safetensors, {', '.join(_PICKLED)}.")
    content = _content(path)
    if not isinstance(content, Mapping):
        raise UserError(f"{path} holds a {type(content).__name__}; allowed is a dictionary of tensors by name.")
    return dict(_tensors(content, ""))


def _content(path: Path) -> Any:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        # DINO's and MAE's checkpoints hold the arguments of their training: attributes without code.
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if not (code := re.search(r"GLOBAL (\w+(\.\w+)+)", str(error))):
            raise _damaged(path, error) from error
        raise UserError(
            f"{path} holds more than tensors and plain values ({code[1]}), and code of a weights file is never run. Where you trust "
            "it, open it and save its tensors alone: safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')."
        ) from error
    except _UNREADABLE as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> UserError:
    said = re.search(r"WeightsUnpickler error: (.+)", str(error)) or re.match(r"\s*(.+)", str(error))
    return UserError(
        f"{path} cannot be read ({said[1] if said else type(error).__name__}): with its {path.stat().st_size} bytes it is cut, damaged or "
        "no weights file. Fetch it again."
    )


def _tensors(content: Mapping[Any, Any], prefix: str) -> Iterator[tuple[str, torch.Tensor]]:
    for key, value in content.items():
        if isinstance(value, torch.Tensor):
            yield _WRAPPERS.sub(r"\1", f"{prefix}{key}"), value
        elif isinstance(value, Mapping):
            yield from _tensors(value, f"{prefix}{key}.")

"""Weights into an encoder: from a file of DINO, DINOv2, timm, kaiko or our own, and from timm's hub.

All of these are the same ViT under other names. What differs is undone here exactly: wrappers' prefixes, blocks in chunks
(blocks.0.3. is block 3), SwiGLU's w12 and w3, and whether the class token and the registers have a position (timm's
no_embed_class models add it to the tokens themselves). Grids of positions and patch sizes are resampled to the encoder's.
"""

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import isqrt
from pathlib import Path
from typing import Any

import torch
from timm.layers import resample_abs_pos_embed, resample_patch_embed
from torch import nn

from pathssl.errors import UserError
from pathssl.models.encoder import create_encoder
from pathssl.models.weights_file import read_tensors

_PATCHES = "patch_embed.proj.weight"  # every ViT has one: where it stands in a file, the encoder stands
_TEACHER = re.compile(r"(^|[._])(teacher|ema)([._]|$)")
# Within an encoder, classifiers and the tokens that stand for masked patches; "masked_embed" is iBOT's.
_LEFT_ASIDE = re.compile(r"(head|head_dist|pre_logits)\.|mask_token$|masked_embed$")
_RENAMED = (
    (re.compile(r"^blocks\.\d+\.(\d+)\."), r"blocks.\1."),
    (re.compile(r"^register_tokens$"), "reg_token"),
    (re.compile(r"\.mlp\.w12\."), ".mlp.fc1."),
    (re.compile(r"\.mlp\.w3\."), ".mlp.fc2."),
    (re.compile(r"\.gamma_([12])$"), r".ls\1.gamma"),
)


@dataclass(frozen=True)
class Loaded:
    """What came into an encoder from `source`, by names of tensors; as text, the sentence for the log.

    resampled: those of `loaded` that another grid or patch size was made of, with both. missing: the encoder's that the source has not.
    other_shape: those that both have, and that do not fit. unknown: the source's that the encoder has not. left_aside: what is no part of
    an encoder, such as heads, the student beside its teacher, and the optimiser's state.
    """

    source: str
    loaded: list[str]
    resampled: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    other_shape: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    left_aside: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        """The number of the encoder's tensors."""
        return len(self.loaded) + len(self.missing) + len(self.other_shape)

    @property
    def gaps(self) -> bool:
        """Whether encoder and source differ in any tensor."""
        return bool(self.missing or self.other_shape or self.unknown)

    def __str__(self) -> str:
        resampled = ", ".join(f"{name} from {how}" for name, how in self.resampled.items())
        parts = [
            f"Loaded {len(self.loaded)} of the encoder's {self.total} tensors from {self.source}",
            f"resampled: {resampled}" if resampled else "",
            _listed("missing there, left as initialised", self.missing),
            _listed("of another shape there, left as initialised", self.other_shape),
            _listed("unknown to the encoder", self.unknown),
            _listed("left aside", self.left_aside),
        ]
        return "; ".join(part for part in parts if part) + "."


def _listed(what: str, names: list[str]) -> str:
    more = ", ..." if len(names) > 4 else ""
    return f"{what}: {len(names)} ({', '.join(names[:4])}{more})" if names else ""


def load_weights(encoder: nn.Module, path: Path, *, strict: bool) -> Loaded:
    """What was loaded into `encoder` from the file at `path`.

    With `strict` a tensor that is missing, unknown or of another shape is refused; resampling is not. Under half of the encoder's tensors
    are always refused, and so is a pickle that holds more than tensors and plain values: no code of a file is run.
    """
    found = read_tensors(path)
    root = _root(found, path)
    return _load(encoder, found, root, source=f"{path} ({root}*)" if root else str(path), strict=strict)


def load_published(encoder: nn.Module, name: str, *, strict: bool) -> tuple[Loaded, dict[str, list[float]]]:
    """What was loaded into `encoder` of the weights that are published as `name`, and the colours that these were trained with.

    name: one of timm's with its tag, as in vit_small_patch16_224.dino, or hf-hub:OWNER/REPOSITORY; refusals as `load_weights`. The
    encoder keeps its own architecture: of another grid or patch size, what is published is resampled. Colours: {"mean", "std"}.
    """
    published = create_encoder(name, {}, pretrained=True)
    loaded = _load(encoder, published.state_dict(), "", source=f"what is published as {name}", strict=strict)
    return loaded, {key: [float(value) for value in published.pretrained_cfg[key]] for key in ("mean", "std")}


def _load(encoder: nn.Module, found: Mapping[str, torch.Tensor], root: str, *, source: str, strict: bool) -> Loaded:
    own = encoder.state_dict()
    state, left_aside = {}, []
    for name, tensor in found.items():
        below = name.removeprefix(root)
        if not name.startswith(root) or (below not in own and _LEFT_ASIDE.match(below)):
            left_aside.append(name)
        else:
            state[below if below in own else _renamed(below)] = tensor
    like = _looks(state)
    resampled = _fit_positions(state, encoder) | _fit_patches(state, own)
    fitting = {name: state[name] for name in own if name in state and state[name].shape == own[name].shape}
    loaded = Loaded(
        source=source,
        loaded=list(fitting),
        resampled={name: how for name, how in resampled.items() if name in fitting},
        missing=[name for name in own if name not in state],
        other_shape=[name for name in own if name in state and name not in fitting],
        unknown=[name for name in state if name not in own],
        left_aside=left_aside,
    )
    _refuse(loaded, strict, f"There it is a ViT {like}, the encoder is one {_looks(own)}.")
    encoder.load_state_dict(fitting, strict=False)
    return loaded


def create_pretrained(
    name: str, args: dict[str, Any], drop_path: float = 0.0, drop_path_rule: str = "linear", *, strict: bool
) -> tuple[nn.Module, Loaded]:
    """timm's model `name` with the weights that timm publishes under that name, and what was loaded; refusals as `load_weights`."""
    with _said_by_timm() as said:
        encoder = create_encoder(name, args, drop_path, drop_path_rule, pretrained=True)
    assert said, "timm logged nothing, so nobody knows what it loaded"
    own, text = encoder.state_dict(), "\n".join(said)
    missing = _keys(r"Missing keys \((.*?)\)", text)
    resampled = {}
    if grids := re.search(r"Resized position embedding: [(\[](.*?)[)\]] to [(\[](.*?)[)\]]\.", text):
        resampled["pos_embed"] = f"{grids[1].replace(', ', ' x ')} to {grids[2].replace(', ', ' x ')}"
    published, patch_px = re.search(r"patch(\d+)", name), own[_PATCHES].shape[-1]
    if published and int(published[1]) != patch_px:
        resampled[_PATCHES] = f"{published[1]} px to {patch_px} px"
    config = encoder.pretrained_cfg
    loaded = Loaded(
        source=f"what is published as {name}"
        if ":" in name
        else "what timm publishes as " + ".".join(part for part in (config["architecture"], config.get("tag")) if part),
        loaded=[key for key in own if key not in missing],
        resampled=resampled,
        missing=missing,
        unknown=_keys(r"Unexpected keys \((.*?)\)", text),
    )
    _refuse(loaded, strict, f"model.args={args} changes {name}.")
    return encoder, loaded


@contextmanager
def _said_by_timm() -> Iterator[list[str]]:
    """The lines that timm logs: the only place where it says what it resized, and what it did not find."""
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    logger = logging.getLogger("timm")
    before = logger.level, logger.propagate
    logger.setLevel(logging.INFO)
    logger.propagate = False  # the sentence of `Loaded` says it
    logger.addHandler(handler)
    try:
        yield said
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before[0])
        logger.propagate = before[1]


def _keys(pattern: str, text: str) -> list[str]:
    found = re.search(pattern, text)
    return found[1].split(", ") if found else []


def _root(found: Mapping[str, torch.Tensor], path: Path) -> str:
    """What stands before the encoder's names. Of several encoders the teacher is taken, or else the outermost."""
    roots = [name.removesuffix(_PATCHES) for name in found if name == _PATCHES or name.endswith(f".{_PATCHES}")]
    if not roots:
        raise UserError(
            f"{path} holds no ViT under names of DINO, DINOv2 or timm: none of its {len(found)} tensors is called ...{_PATCHES}"
            + (f"; they are called {', '.join(list(found)[:3])}. Rename them to timm's names first." if found else ".")
        )
    return min(roots, key=lambda root: (not _TEACHER.search(root), len(root)))


def _renamed(name: str) -> str:
    for pattern, replacement in _RENAMED:
        name = pattern.sub(replacement, name)
    return name


def _fit_positions(state: dict[str, torch.Tensor], encoder: nn.Module) -> dict[str, str]:
    """How state's pos_embed was resampled, if it was; brings it to the encoder's grid, and class and register positions to its form.

    pos_embed is (1, P + rows * columns, D): P is 0 where class token and registers hold their positions themselves, 1 for the class
    token's, and 1 + R where R registers have one too.
    """
    own, given = getattr(encoder, "pos_embed", None), state.get("pos_embed")
    if own is None or given is None or own.ndim != 3 or given.ndim != 3 or len(given) != 1:
        return {}
    rows, columns = encoder.patch_embed.grid_size
    own_prefix, registers = own.shape[1] - rows * columns, state["reg_token"].shape[1] if "reg_token" in state else 0
    for prefix in (own_prefix, 1 + registers, 1, 0):
        count = given.shape[1] - prefix
        side = isqrt(max(count, 0))
        if count == rows * columns or (count > 0 and side**2 == count):
            break
    else:
        return {}  # of another shape
    old = (rows, columns) if count == rows * columns else (side, side)
    before, grid = given[:, :prefix], given[:, prefix:]
    if old != (rows, columns):
        grid = resample_abs_pos_embed(grid, new_size=[rows, columns], old_size=list(old), num_prefix_tokens=0)
    if own_prefix == 0 and prefix:
        for token, position in (("cls_token", before[:, :1]), ("reg_token", before[:, 1:])):
            if token in state and position.shape[1]:
                state[token] = state[token] + position
    elif own_prefix != prefix:
        zeros = before.new_zeros(1, max(own_prefix - prefix, 0), given.shape[2])
        before = torch.cat((before[:, :own_prefix], zeros), dim=1)
    state["pos_embed"] = torch.cat((before[:, :own_prefix], grid), dim=1)
    return {"pos_embed": f"{old[0]} x {old[1]} to {rows} x {columns}"} if old != (rows, columns) else {}


def _fit_patches(state: dict[str, torch.Tensor], own: Mapping[str, torch.Tensor]) -> dict[str, str]:
    """How state's patch embedding was resampled, if it was: to the encoder's patch size, as FlexiViT does (Beyer et al. 2023)."""
    given, wanted = state[_PATCHES], own[_PATCHES].shape
    if given.ndim != 4 or given.shape[2:] == wanted[2:]:
        return {}
    state[_PATCHES] = resample_patch_embed(given, list(wanted[2:]))
    return {_PATCHES: f"{given.shape[-1]} px to {wanted[-1]} px"}


def _looks(state: Mapping[str, torch.Tensor]) -> str:
    blocks = {int(found[1]) for name in state if (found := re.match(r"blocks\.(\d+)\.", name))}
    patches = state[_PATCHES]
    return f"of {len(blocks)} blocks, {patches.shape[0]} features and patches of {patches.shape[-1]} px"


def _refuse(loaded: Loaded, strict: bool, why: str) -> None:
    if 2 * len(loaded.loaded) < loaded.total:
        raise UserError(
            f"The weights are of another model, and nothing was loaded: only {len(loaded.loaded)} of the encoder's {loaded.total} tensors "
            f"fit what is in {loaded.source}. {why} Choose the model that they were made for (model=..., model.name=...)."
        )
    if strict and loaded.gaps:
        gaps = _listed("missing", loaded.missing), _listed("of another shape", loaded.other_shape)
        text = "; ".join(part for part in (*gaps, _listed("unknown to the encoder", loaded.unknown)) if part)
        raise UserError(
            f"init.strict=true, and {loaded.source} does not fit the encoder: {text}. {why} Choose the model that they were made for, or "
            "init.strict=false to leave these as they are."
        )

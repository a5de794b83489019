"""Miniature checkpoints under the names and in the containers that DINO, DINOv2, timm, kaiko and we publish."""

import argparse
import json
import logging
import os
import pickle
import re

import pytest
import timm
import torch
import torch.nn.functional as F
from einops import rearrange
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError
from safetensors.torch import save_file

from pathssl import parts
from pathssl.errors import UserError
from pathssl.models.encoder import check_name, create_encoder
from pathssl.models.weights import create_pretrained, load_published, load_weights

D, DEPTH, HEADS, PATCH, GRID = 32, 4, 2, 8, 4
MINI = {"img_size": PATCH * GRID, "patch_size": PATCH, "embed_dim": D, "depth": DEPTH, "num_heads": HEADS}
PLAIN, V2, V2_REGISTERS = "vit_small_patch16_224", "vit_small_patch14_dinov2", "vit_large_patch14_reg4_dinov2"
GIANT = "vit_giant_patch14_reg4_dinov2"


def mini(name: str, seed: int, **more) -> torch.nn.Module:
    """timm's model `name`, made small, with every tensor random."""
    made = create_encoder(name, MINI | more, 0.0).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return made


def facebook(seed: int, *, scale=False, registers=0, mask_token=False, swiglu=False, chunks=0, grid=GRID) -> dict:
    """A state dict with the names of DINO's ViT, and of DINOv2's with what that has besides."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {"cls_token": (1, 1, D), "pos_embed": (1, 1 + grid**2, D)}
    shapes |= {"register_tokens": (1, registers, D)} if registers else {}
    shapes |= {"mask_token": (1, D)} if mask_token else {}
    shapes |= {"patch_embed.proj.weight": (D, 3, PATCH, PATCH), "patch_embed.proj.bias": (D,)}
    hidden = 85 if swiglu else 4 * D
    first, second = (("w12", 2 * hidden), "w3") if swiglu else (("fc1", hidden), "fc2")
    for i in range(DEPTH):
        block = f"blocks.{i // (DEPTH // chunks)}.{i}." if chunks else f"blocks.{i}."
        for name, rows, columns in (
            ("attn.qkv", 3 * D, D),
            ("attn.proj", D, D),
            (f"mlp.{first[0]}", first[1], D),
            (f"mlp.{second}", D, hidden),
        ):
            shapes |= {f"{block}{name}.weight": (rows, columns), f"{block}{name}.bias": (rows,)}
        shapes |= {f"{block}{norm}.{kind}": (D,) for norm in ("norm1", "norm2") for kind in ("weight", "bias")}
        shapes |= {f"{block}ls{n}.gamma": (D,) for n in (1, 2)} if scale else {}
    shapes |= {"norm.weight": (D,), "norm.bias": (D,)}
    return {name: torch.randn(shape, generator=generator) * 0.2 for name, shape in shapes.items()}


def facebook_features(state: dict, images: torch.Tensor) -> torch.Tensor:
    """The class token after the last norm, as DINO's and DINOv2's ViT compute it from a state dict with their names."""
    patches = F.conv2d(images, state["patch_embed.proj.weight"], state["patch_embed.proj.bias"], stride=PATCH)
    x = torch.cat((state["cls_token"].expand(len(images), -1, -1), rearrange(patches, "b d h w -> b (h w) d")), dim=1)
    x = x + state["pos_embed"]
    if "register_tokens" in state:
        x = torch.cat((x[:, :1], state["register_tokens"].expand(len(images), -1, -1), x[:, 1:]), dim=1)
    names = {int(m[1]): m[0] for name in state if (m := re.match(r"blocks\.(?:\d+\.)?(\d+)\.(?=[a-z])", name))}
    for _, block in sorted(names.items()):
        own = {name.removeprefix(block): value for name, value in state.items() if name.startswith(block)}

        def linear(x, name, own=own):
            return F.linear(x, own[f"{name}.weight"], own[f"{name}.bias"])

        def norm(x, name, own=own):
            return F.layer_norm(x, (D,), own[f"{name}.weight"], own[f"{name}.bias"], eps=1e-6)

        q, k, v = rearrange(linear(norm(x, "norm1"), "attn.qkv"), "b n (three h d) -> three b h n d", three=3, h=HEADS)
        mixed = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1) @ v
        x = x + own.get("ls1.gamma", 1) * linear(rearrange(mixed, "b h n d -> b n (h d)"), "attn.proj")
        if "mlp.w12.weight" in own:
            gate, value = linear(norm(x, "norm2"), "mlp.w12").chunk(2, dim=-1)
            out = linear(F.silu(gate) * value, "mlp.w3")
        else:
            out = linear(F.gelu(linear(norm(x, "norm2"), "mlp.fc1")), "mlp.fc2")
        x = x + own.get("ls2.gamma", 1) * out
    return F.layer_norm(x[:, 0], (D,), state["norm.weight"], state["norm.bias"], eps=1e-6)


def prefixed(prefix: str, state: dict) -> dict:
    return {f"{prefix}{name}": value for name, value in state.items()}


def head() -> dict:
    return {"mlp.0.weight": torch.randn(8, D), "last_layer.weight_v": torch.randn(8, 8)}


IMAGES = torch.randn(3, 3, PATCH * GRID, PATCH * GRID, generator=torch.Generator().manual_seed(9))


def close(one: torch.Tensor, other: torch.Tensor) -> bool:
    assert other.std() > 0.1  # not the equality of two constants
    return torch.allclose(one, other, atol=1e-5, rtol=0)


@torch.no_grad()
def check_file(path, name: str, expected: torch.Tensor, **more):
    """What was loaded, strictly, into another mini(name), whose features are then the expected ones."""
    encoder = mini(name, 99, **more)
    assert not close(encoder(IMAGES), expected)
    loaded = load_weights(encoder, path, strict=True)
    assert close(encoder(IMAGES), expected)
    assert loaded.loaded == list(encoder.state_dict()) and not loaded.gaps and not loaded.resampled
    return loaded


@pytest.mark.parametrize("ddp", ["", "module."])
def test_dinos_full_checkpoint_gives_its_teacher(tmp_path, ddp):
    student, teacher = facebook(1), facebook(2)
    saved = {
        "student": prefixed("module.backbone.", student) | prefixed("module.head.", head()),
        "teacher": prefixed(f"{ddp}backbone.", teacher) | prefixed(f"{ddp}head.", head()),
        "optimizer": {"state": {0: {"exp_avg": torch.zeros(3), "step": 7}}, "param_groups": [{"lr": 0.1}]},
        "epoch": 100,
        "args": argparse.Namespace(arch="vit_small", lr=0.0005),
        "dino_loss": {"center": torch.zeros(1, 8)},
    }
    torch.save(saved, tmp_path / "full.pth")
    loaded = check_file(tmp_path / "full.pth", PLAIN, facebook_features(teacher, IMAGES))
    assert f"(teacher.{ddp}backbone.*)" in loaded.source
    expected = {"student.module.backbone.cls_token", "optimizer.state.0.exp_avg", "dino_loss.center"}
    assert expected | {f"teacher.{ddp}head.mlp.0.weight"} <= set(loaded.left_aside)
    assert len(loaded.left_aside) == len(student) + 2 + 2 + 2


def test_a_checkpoint_with_a_student_alone_gives_the_student(tmp_path):
    state = facebook(1)
    torch.save({"student": prefixed("module.backbone.", state)}, tmp_path / "s.pth")
    check_file(tmp_path / "s.pth", PLAIN, facebook_features(state, IMAGES))


def test_of_several_encoders_without_a_teacher_the_outermost_is_taken(tmp_path):
    state = facebook(1)
    torch.save(prefixed("model.old.", facebook(2)) | prefixed("model.", state), tmp_path / "two.pth")
    encoder = mini(PLAIN, 3)
    loaded = load_weights(encoder, tmp_path / "two.pth", strict=False)
    assert len(loaded.unknown) == len(state) and torch.equal(encoder.cls_token, state["cls_token"])


def test_dinos_backbone_loads(tmp_path):
    state = facebook(1)
    torch.save(state, tmp_path / "backbone.pth")
    assert not check_file(tmp_path / "backbone.pth", PLAIN, facebook_features(state, IMAGES)).left_aside


@pytest.mark.parametrize("chunks", [0, 1, 2])
@pytest.mark.parametrize(
    ("name", "what"),
    [
        (V2, {"scale": True, "mask_token": True}),
        (V2_REGISTERS, {"scale": True, "registers": 4, "mask_token": True}),
        (V2_REGISTERS, {"scale": True, "registers": 4}),  # as kaiko's L/14 may be
        (GIANT, {"scale": True, "registers": 4, "mask_token": True, "swiglu": True}),
    ],
    ids=["plain", "registers", "no-mask-token", "giant"],
)
def test_dinov2s_backbones_load(tmp_path, name, what, chunks):
    state = facebook(1, **what, chunks=chunks)
    torch.save(state, tmp_path / "v2.pth")
    loaded = check_file(tmp_path / "v2.pth", name, facebook_features(state, IMAGES))
    assert loaded.left_aside == (["mask_token"] if "mask_token" in what else [])


def test_dinov2s_training_checkpoint_gives_the_teachers_backbone(tmp_path):
    state = facebook(1, scale=True, registers=4, mask_token=True, chunks=2)
    heads = prefixed("dino_head.", head()) | prefixed("ibot_head.", head())
    torch.save({"teacher": prefixed("backbone.", state) | heads}, tmp_path / "teacher_checkpoint.pth")
    loaded = check_file(tmp_path / "teacher_checkpoint.pth", V2_REGISTERS, facebook_features(state, IMAGES))
    assert set(loaded.left_aside) == {f"teacher.{name}" for name in (*heads, "backbone.mask_token")}
    other = prefixed("student.backbone.", facebook(2, scale=True, registers=4, chunks=2))
    torch.save({"model": other | prefixed("teacher.backbone.", state), "iteration": 5}, tmp_path / "model.pth")
    check_file(tmp_path / "model.pth", V2_REGISTERS, facebook_features(state, IMAGES))


def test_class_and_register_positions_are_brought_to_the_encoders_form(tmp_path):
    state = facebook(1, scale=True, registers=4)
    torch.save(state, tmp_path / "v2.pth")
    # Registers with positions of their own: zero ones leave what DINOv2 computes as it is.
    check_file(tmp_path / "v2.pth", V2, facebook_features(state, IMAGES), reg_tokens=4)
    for args, other in (
        ({"reg_tokens": 4}, {"reg_tokens": 4, "no_embed_class": True}),
        ({"reg_tokens": 0, "no_embed_class": True}, {}),
    ):
        source = mini(V2, 5, **args)
        save_file(source.state_dict(), tmp_path / "source.safetensors")
        with torch.no_grad():
            check_file(tmp_path / "source.safetensors", V2, source(IMAGES), **other)


@torch.no_grad()
def test_a_file_without_registers_leaves_only_the_registers_as_they_were(tmp_path):
    state = facebook(1, scale=True)
    torch.save(state, tmp_path / "v2.pth")
    encoder = mini(V2_REGISTERS, 3)
    loaded = load_weights(encoder, tmp_path / "v2.pth", strict=False)
    assert loaded.missing == ["reg_token"] and not loaded.unknown
    assert close(encoder(IMAGES), facebook_features(state | {"register_tokens": encoder.reg_token}, IMAGES))
    with pytest.raises(UserError, match=r"init\.strict=true.*missing: 1 \(reg_token\).*init\.strict=false"):
        load_weights(encoder, tmp_path / "v2.pth", strict=True)


@pytest.mark.parametrize("name", [PLAIN, V2_REGISTERS, GIANT])
@torch.no_grad()
def test_timms_kaikos_and_our_own_files_load(tmp_path, name):
    source = mini(name, 1)
    state, features = source.state_dict(), source(IMAGES)
    classifier = {"head.weight": torch.zeros(5, D), "head.bias": torch.zeros(5)}
    save_file(state | classifier, tmp_path / "timm.safetensors")
    torch.save(state | classifier, tmp_path / "timm.pth")
    ema = {"state_dict": mini(name, 2).state_dict(), "state_dict_ema": state, "arch": name, "metric": 0.5}
    torch.save(ema, tmp_path / "checkpoint.pth")
    torch.save(state, tmp_path / "kaiko.pth")
    torch.save(prefixed("model.", state), tmp_path / "kaiko_wrapped.pth")
    wrapped = {re.sub(r"^blocks\.(\d+)\.", r"blocks.\1._orig_mod.", key): value for key, value in state.items()}
    torch.save({"state_dict": prefixed("module._orig_mod.encoder.", wrapped)}, tmp_path / "compiled.ckpt")
    save_file(state, tmp_path / "teacher.safetensors")
    asides = {"timm.safetensors": 2, "timm.pth": 2, "checkpoint.pth": len(state)}
    for file in tmp_path.iterdir():
        loaded = check_file(file, name, features)
        assert len(loaded.left_aside) == asides.get(file.name, 0), file


def test_half_precision_becomes_the_encoders(tmp_path):
    state = {name: value.half() for name, value in facebook(1).items()}
    torch.save(state, tmp_path / "half.pth")
    encoder = mini(PLAIN, 2)
    load_weights(encoder, tmp_path / "half.pth", strict=True)
    assert encoder.norm.weight.dtype == torch.float32 and torch.equal(encoder.norm.weight, state["norm.weight"].float())


@pytest.mark.parametrize(("name", "registers"), [(PLAIN, 0), (V2_REGISTERS, 4)])
@torch.no_grad()
def test_positions_are_resampled_to_the_grid_of_the_encoder(tmp_path, name, registers):
    state = facebook(1, grid=7, registers=registers, scale=bool(registers))
    torch.save(state, tmp_path / "big.pth")
    encoder = mini(name, 2)
    loaded = load_weights(encoder, tmp_path / "big.pth", strict=True)
    assert loaded.resampled == {"pos_embed": "7 x 7 to 4 x 4"} and "resampled: pos_embed from 7 x 7 to 4 x 4" in str(
        loaded
    )
    given = rearrange(state["pos_embed"][:, 1:], "1 (h w) d -> 1 d h w", h=7)
    expected = F.interpolate(given, size=(4, 4), mode="bicubic", antialias=True)
    assert torch.allclose(encoder.pos_embed[:, -16:], rearrange(expected, "1 d h w -> 1 (h w) d"), atol=1e-6)
    tokens = encoder.cls_token + (0 if registers else encoder.pos_embed[:, :1])
    assert torch.allclose(tokens, state["cls_token"] + state["pos_embed"][:, :1], atol=1e-6)


@torch.no_grad()
def test_patches_are_resampled_so_that_an_enlarged_patch_gives_the_same_token(tmp_path):
    state = facebook(1)
    torch.save(state, tmp_path / "small.pth")
    encoder = mini(PLAIN, 2, patch_size=16, img_size=64)
    loaded = load_weights(encoder, tmp_path / "small.pth", strict=True)
    assert loaded.resampled == {"patch_embed.proj.weight": "8 px to 16 px"}
    patch = torch.randn(2, 3, PATCH, PATCH)
    enlarged = F.interpolate(patch, size=(16, 16), mode="bicubic", antialias=True, align_corners=False)
    expected = F.conv2d(patch, state["patch_embed.proj.weight"], state["patch_embed.proj.bias"])
    assert torch.allclose(encoder.patch_embed.proj(enlarged), expected, atol=1e-4)


def test_the_sentence_counts_and_names_what_did_not_match(tmp_path):
    asides = ["head.weight", "head_dist.bias", "pre_logits.fc.weight", "masked_embed"]
    state = facebook(1) | {"extra.weight": torch.zeros(3)} | {name: torch.zeros(4, D) for name in asides}
    del state["norm.weight"], state["norm.bias"]
    state["blocks.0.norm1.weight"] = torch.zeros(7)
    torch.save(state, tmp_path / "gaps.pth")
    encoder = mini(PLAIN, 2)
    before = encoder.state_dict()["norm.weight"].clone()
    loaded = load_weights(encoder, tmp_path / "gaps.pth", strict=False)
    assert torch.equal(encoder.norm.weight, before)
    total = len(encoder.state_dict())
    assert str(loaded) == (
        f"Loaded {total - 3} of the encoder's {total} tensors from {tmp_path}/gaps.pth; missing there, left as initialised: 2 "
        "(norm.weight, norm.bias); of another shape there, left as initialised: 1 (blocks.0.norm1.weight); unknown to the encoder: 1 "
        f"(extra.weight); left aside: 4 ({', '.join(asides)})."
    )
    for gap in ({"norm.weight": None}, {"extra.weight": torch.zeros(3)}, {"blocks.0.norm1.weight": torch.zeros(7)}):
        one = {name: value for name, value in (facebook(1) | gap).items() if value is not None}
        torch.save(one, tmp_path / "gap.pth")
        with pytest.raises(UserError, match=f"init.strict=true.*{next(iter(gap))}"):
            load_weights(encoder, tmp_path / "gap.pth", strict=True)


@pytest.mark.parametrize("strict", [False, True])
def test_weights_of_another_architecture_are_refused_and_nothing_is_loaded(tmp_path, strict):
    torch.save(facebook(1), tmp_path / "other.pth")
    encoder = create_encoder(PLAIN, MINI | {"embed_dim": 64, "depth": 3}, 0.0)
    said = (
        r"another model.*only 0 of the encoder's 42 .*4 blocks, 32 features.*8 px.*3 blocks, 64 features.*model\.name"
    )
    with pytest.raises(UserError, match=said):
        load_weights(encoder, tmp_path / "other.pth", strict=strict)
    # Under half: a quarter of the blocks.
    torch.save(
        {name: value for name, value in facebook(1).items() if not re.match(r"blocks\.[123]", name)},
        tmp_path / "few.pth",
    )
    encoder = mini(PLAIN, 1)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    with pytest.raises(UserError, match="only 18 of the encoder's 54"):
        load_weights(encoder, tmp_path / "few.pth", strict=strict)
    assert all(torch.equal(before[name], value) for name, value in encoder.state_dict().items())


def test_a_file_without_a_vit_is_refused_by_the_names_in_it(tmp_path):
    save_file({"embeddings.cls_token": torch.zeros(3)}, tmp_path / "x.safetensors")
    with pytest.raises(UserError, match=r"no ViT under names of.*embeddings\.cls_token.*timm's names"):
        load_weights(mini(PLAIN, 1), tmp_path / "x.safetensors", strict=False)
    torch.save([torch.zeros(3)], tmp_path / "list.pth")
    with pytest.raises(UserError, match="holds a list; allowed is a dictionary"):
        load_weights(mini(PLAIN, 1), tmp_path / "list.pth", strict=False)


class Code:
    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return os.mkdir, (self.marker,)


@pytest.mark.parametrize("legacy", [False, True])
def test_code_in_a_pickle_is_refused_and_not_run(tmp_path, legacy):
    content = facebook(1) | {"more": Code(tmp_path / "ran")}
    torch.save(content, tmp_path / "evil.pth", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(UserError, match=r"more than tensors.*mkdir.*never run.*safetensors\.torch\.save_file"):
        load_weights(mini(PLAIN, 1), tmp_path / "evil.pth", strict=False)
    assert not (tmp_path / "ran").exists()
    pickle.loads(pickle.dumps(content["more"]))
    assert (tmp_path / "ran").exists()  # the pickle does run something where it is let
    torch.save(mini(PLAIN, 1), tmp_path / "module.pth")
    with pytest.raises(UserError, match=r"more than tensors.*timm.*VisionTransformer"):
        load_weights(mini(PLAIN, 1), tmp_path / "module.pth", strict=False)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("kind", ["safetensors", "zip", "legacy"])
def test_a_truncated_or_garbled_file_is_refused_with_a_sentence(tmp_path, kind):
    whole, cut = (tmp_path / f"{name}.{'safetensors' if kind == 'safetensors' else 'pth'}" for name in ("whole", "cut"))
    state = {"cls_token": torch.zeros(1, 1, D), "norm.weight": torch.zeros(D)}
    if kind == "safetensors":
        save_file(state, whole)
    else:
        torch.save(state, whole, _use_new_zipfile_serialization=kind == "zip")
    content, encoder = whole.read_bytes(), mini(PLAIN, 1)
    generator = torch.Generator().manual_seed(0)
    with pytest.raises(UserError, match="holds no ViT"):
        load_weights(encoder, whole, strict=False)
    for size in range(0, len(content) - 1, max(1, len(content) // 150)):
        cut.write_bytes(content[:size])
        # A cut within the name of a class looks like another class.
        with pytest.raises(
            UserError, match=rf"cannot be read \(.*with its {size} bytes.*Fetch it again|\((collections|torch)\."
        ):
            load_weights(encoder, cut, strict=False)
    for _ in range(150):
        garbled = bytearray(content)
        for place, value in torch.randint(0, 2**31, (3, 2), generator=generator).tolist():
            garbled[place % min(len(garbled), 700)] = value % 256
        cut.write_bytes(garbled)
        with pytest.raises(UserError):
            load_weights(encoder, cut, strict=False)


def test_a_missing_file_and_a_file_of_another_kind_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"There is no weights file .*gone\.pth"):
        load_weights(mini(PLAIN, 1), tmp_path / "gone.pth", strict=False)
    (tmp_path / "w.npz").write_bytes(b"")
    with pytest.raises(UserError, match=r"w\.npz is not .*\.safetensors, \.pth"):
        load_weights(mini(PLAIN, 1), tmp_path / "w.npz", strict=False)


def test_timms_published_weights_are_counted_and_their_resampling_told(hub):
    level = logging.getLogger("timm").level
    encoder, loaded = create_pretrained("vit_tiny_patch16_224", {"img_size": 224}, 0.0, strict=True)
    assert torch.equal(encoder.blocks[3].mlp.fc1.weight, hub.blocks[3].mlp.fc1.weight)
    total = len(encoder.state_dict())
    published = "what timm publishes as vit_tiny_patch16_224.augreg_in21k_ft_in1k"
    assert str(loaded) == f"Loaded {total} of the encoder's {total} tensors from {published}."
    encoder, loaded = create_pretrained("vit_tiny_patch16_224", {"img_size": 96, "patch_size": 8}, 0.0, strict=True)
    assert encoder.pos_embed.shape[1] == 1 + 12 * 12
    assert loaded.resampled == {"pos_embed": "14 x 14 to 12 x 12", "patch_embed.proj.weight": "16 px to 8 px"}
    timms = logging.getLogger("timm")
    assert timms.level == level and timms.propagate and not timms.handlers


def test_gaps_in_timms_published_weights_are_told_and_refused_when_strict(hub):
    for depth, kind in ((13, "missing"), (11, "unknown")):
        args = {"img_size": 224, "depth": depth}
        _, loaded = create_pretrained("vit_tiny_patch16_224", args, 0.0, strict=False)
        names = getattr(loaded, kind)
        assert len(names) == 12 and names[0].startswith(f"blocks.{max(depth, 12) - 1}.") and loaded.gaps
        assert len(loaded.loaded) == len(hub.state_dict()) - 2 - (12 if kind == "unknown" else 0)
        with pytest.raises(UserError, match=rf"init\.strict=true.*{kind}.*12 \(blocks.*'depth': {depth}"):
            create_pretrained("vit_tiny_patch16_224", args, 0.0, strict=True)
    with pytest.raises(UserError, match=r"another model.*model\.args"):
        create_pretrained("vit_tiny_patch16_224", {"img_size": 224, "depth": 30}, 0.0, strict=False)


@pytest.mark.usefixtures("hub")
def test_published_weights_that_cannot_be_had_are_refused_with_the_ways_round():
    with pytest.raises(
        UserError, match=r"no usable pretrained weights for vit_small_patch16_224.*init=random, or init=file"
    ):
        create_pretrained("vit_small_patch16_224", {}, 0.0, strict=False)


def test_a_runs_encoder_is_initialised_as_init_says_and_the_log_tells(tmp_path, caplog):
    state = facebook(1)
    torch.save(state, tmp_path / "w.pth")
    del state["norm.bias"]
    torch.save(state, tmp_path / "gap.pth")
    model = {"name": PLAIN, "args": MINI, "drop_path": 0.0, "drop_path_rule": "linear"}

    def encoder(**init):
        settings = {"pretrained": False, "path": None, "name": None, "strict": False} | init
        return parts.encoder({"seed": 0, "model": model, "init": settings})

    with caplog.at_level(logging.INFO):
        assert torch.equal(encoder(path=str(tmp_path / "w.pth")).cls_token, state["cls_token"])
        encoder(path=str(tmp_path / "gap.pth"))
        assert torch.equal(encoder().cls_token, encoder().cls_token)
    assert [record.levelname for record in caplog.records] == ["INFO", "WARNING"]
    assert (
        "Loaded 54 of the encoder's 54" in caplog.text
        and "missing there, left as initialised: 1 (norm.bias)" in caplog.text
    )
    with pytest.raises(UserError, match=r"norm\.bias"):
        encoder(path=str(tmp_path / "gap.pth"), strict=True)
    with pytest.raises(UserError, match=r"init\.pretrained=true and init\.path="):
        encoder(path=str(tmp_path / "w.pth"), pretrained=True)


NAMED = "vit_tiny_patch16_224.augreg_in21k_ft_in1k"


@pytest.fixture
def on_hub(hub, tmp_path):  # noqa: ARG001  it made the repository
    """The same weights as a repository of the hub's that says what they are of; its name for timm."""
    folder = tmp_path / f"models--timm--{NAMED}" / "snapshots" / "abc"
    config = {"architecture": "vit_tiny_patch16_224", "num_classes": 1000, "num_features": 192}
    look = {"mean": [0.7, 0.5, 0.6], "std": [0.2, 0.2, 0.2], "input_size": [3, 224, 224], "num_classes": 1000}
    look |= {"first_conv": "patch_embed.proj", "classifier": "head"}
    (folder / "config.json").write_text(json.dumps(config | {"pretrained_cfg": look}))
    return f"hf-hub:timm/{NAMED}"


def test_published_weights_come_by_name_into_an_architecture_of_ones_own(on_hub, hub):
    small = create_encoder("vit_tiny_patch16_224", {"img_size": 64})
    loaded, colours = load_published(small, on_hub, strict=True)
    assert torch.equal(small.blocks[3].mlp.fc1.weight, hub.blocks[3].mlp.fc1.weight)
    assert loaded.resampled == {"pos_embed": "14 x 14 to 4 x 4"} and on_hub in str(loaded)
    assert colours == {"mean": [0.7, 0.5, 0.6], "std": [0.2, 0.2, 0.2]}
    whole = create_encoder("vit_tiny_patch16_224", {"img_size": 224})
    _, colours = load_published(whole, NAMED, strict=True)
    assert torch.equal(whole.pos_embed, hub.pos_embed) and colours["mean"] == [0.5, 0.5, 0.5]
    asked, said = create_pretrained(on_hub, {}, strict=True)
    assert torch.equal(asked.pos_embed, hub.pos_embed) and on_hub in said.source
    with pytest.raises(UserError, match=r"of another model.*There it is a ViT of 12 blocks, 192 features"):
        load_published(create_encoder("vit_small_patch16_224", {"img_size": 64}), on_hub, strict=False)


@pytest.mark.usefixtures("hub")
def test_a_hub_that_cannot_be_reached_or_wants_to_know_who_asks_is_answered_in_a_sentence(monkeypatch):
    with pytest.raises(UserError, match=r"cannot be reached\. Fetch them where it can \(`hf download me/mine`"):
        create_encoder("hf-hub:me/mine", {}, pretrained=True)
    with pytest.raises(UserError, match=r"`hf download timm/vit_small_patch16_224\.dino`.*init=file"):
        create_encoder("vit_small_patch16_224.dino", {}, pretrained=True)
    with pytest.raises(UserError, match=r"no usable pretrained weights.*Invalid pretrained tag \(nope\)"):
        create_encoder("vit_small_patch16_224.nope", {}, pretrained=True)
    for kind, says in (
        (GatedRepoError, "me/mine is gated.*HF_TOKEN"),
        (RepositoryNotFoundError, "There is no hf-hub:me"),
    ):
        error = kind.__new__(kind)
        monkeypatch.setattr(timm, "create_model", lambda *_, error=error, **__: (_ for _ in ()).throw(error))
        with pytest.raises(UserError, match=says):
            create_encoder("hf-hub:me/mine", {}, pretrained=True)


def test_a_run_takes_weights_by_name_and_says_where_their_colours_are_others(on_hub, hub, caplog):
    model = {"name": "vit_tiny_patch16_224", "args": {"img_size": 64}, "drop_path": 0.0, "drop_path_rule": "linear"}
    config = {"seed": 0, "model": model, "augmentation": {"mean": [0.7, 0.5, 0.6], "std": [0.5, 0.5, 0.5]}}
    init = {"pretrained": True, "path": None, "name": on_hub, "strict": False}
    with caplog.at_level(logging.WARNING):
        made = parts.encoder(config | {"init": init})
    assert torch.equal(made.blocks[0].attn.qkv.weight, hub.blocks[0].attn.qkv.weight)
    assert "augmentation.std=[0.2,0.2,0.2] would be" in caplog.text and "augmentation.mean" not in caplog.text
    with pytest.raises(UserError, match=r"init\.name=.*init=timm"):
        parts.encoder(config | {"init": init | {"pretrained": False}})


def test_a_name_of_weights_is_no_architecture():
    for name in ("vit_small_patch16_224.dino", "hf-hub:me/mine"):
        with pytest.raises(UserError, match=r"model\.name an architecture.*init=timm init\.name="):
            check_name(name)

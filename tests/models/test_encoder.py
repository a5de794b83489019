from pathlib import Path

import pytest
import timm
import torch
import yaml

from pathssl.errors import UserError
from pathssl.models.encoder import check_name, create_encoder

CONF = Path(__file__).resolve().parents[2] / "conf" / "model"
NANO = {"img_size": 64, "patch_size": 8, "embed_dim": 128, "depth": 4, "num_heads": 4}


def test_features_are_the_cls_token_for_any_view_size():
    encoder = create_encoder("vit_tiny_patch16_224", NANO, 0.0).eval()
    for size in (64, 32):
        images = torch.randn(2, 3, size, size)
        assert torch.equal(encoder(images), encoder.forward_features(images)[:, 0])
        assert encoder(images).shape == (2, 128)


@pytest.mark.parametrize("path", sorted(CONF.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_configured_model_is_one_that_timm_has(path):
    config = yaml.safe_load(path.read_text())
    check_name(config["name"])
    with torch.device("meta"):
        model = timm.create_model(
            config["name"], num_classes=0, dynamic_img_size=True, **(config["args"] | {"img_size": 224})
        )
    size, patch = path.stem[3:4], path.stem[4:].partition("_")[0]
    if not path.stem.startswith("vit_"):  # whose names tell no size
        assert model.patch_embed.patch_size == (int(patch), int(patch))
        assert model.num_features == {"s": 384, "b": 768, "l": 1024, "g": 1536}[size]


def test_an_unknown_name_is_refused_with_a_suggestion():
    with pytest.raises(UserError, match="vit_small_patch16_224"):
        check_name("vit_smal_patch16_224")
    with pytest.raises(UserError, match="not a ViT"):
        check_name("resnet50")


def test_arguments_that_do_not_fit_are_refused():
    with pytest.raises(UserError, match="cannot be built"):
        create_encoder("vit_tiny_patch16_224", {"embed_dimension": 3}, 0.0)


@pytest.mark.parametrize(("rule", "rates"), [("linear", [0.0, 0.1, 0.2, 0.3]), ("uniform", [0.3] * 4)])
def test_stochastic_depth_rises_with_the_block_or_is_the_same_in_all(rule, rates):
    blocks = create_encoder("vit_tiny_patch16_224", NANO | {"depth": 4}, 0.3, rule).blocks
    for block, rate in zip(blocks, rates, strict=True):
        assert [getattr(path, "drop_prob", 0.0) for path in (block.drop_path1, block.drop_path2)] == pytest.approx(
            [rate] * 2
        )


def test_an_unknown_rule_of_stochastic_depth_is_refused():
    with pytest.raises(UserError, match=r"model.drop_path_rule=steep is not one of linear, uniform"):
        create_encoder("vit_tiny_patch16_224", NANO, 0.3, "steep")

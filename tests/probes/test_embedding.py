"""What stands for an image: CLS, patch tokens, or both, of any block."""

import pytest
import torch
from torch import nn

from pathssl.errors import UserError
from pathssl.models.encoder import create_encoder
from pathssl.probes.embedding import Embedding, embedded


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    args = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 3, "num_heads": 2, "reg_tokens": 2}
    made = create_encoder("vit_tiny_patch16_224", args).eval()
    nn.init.normal_(made.norm.weight)  # a norm that can be seen
    return made


@pytest.fixture(scope="module")
def images():
    return torch.randn(3, 3, 32, 32)


def by_hand(encoder, images, blocks):
    """Tokens after so many blocks and the last norm, step by step."""
    with torch.no_grad():
        tokens = encoder._pos_embed(encoder.patch_embed(images))
        for block in encoder.blocks[:blocks]:
            tokens = block(tokens)
        return encoder.norm(tokens)


@pytest.mark.parametrize(("block", "blocks"), [(None, 3), (2, 3), (0, 1), (-2, 2)])
def test_features_are_those_tokens(encoder, images, block, blocks):
    tokens = by_hand(encoder, images, blocks)
    cls, mean = tokens[:, 0], tokens[:, 3:].mean(dim=1)  # one CLS token and two registers stand before the patches
    expected = {"cls": cls, "mean": mean, "cls_mean": torch.cat([cls, mean], dim=1)}
    for pool, features in expected.items():
        with torch.no_grad():
            torch.testing.assert_close(Embedding(encoder, pool=pool, block=block)(images), features)


def test_its_own_output_is_the_encoder_itself(encoder, images):
    assert embedded(encoder, pool="cls", block=None) is encoder
    with torch.no_grad():
        torch.testing.assert_close(Embedding(encoder, pool="cls", block=None)(images), encoder(images))


@pytest.mark.parametrize(
    ("settings", "says"),
    [({"pool": "max", "block": None}, "features.pool=max"), ({"pool": "cls", "block": 3}, "0 to 2")],
)
def test_what_there_is_not_is_refused(encoder, settings, says):
    with pytest.raises(UserError, match=says):
        Embedding(encoder, **settings)

"""Token maps: which patch a token is of, and what colour says of the same patches."""

import numpy as np
import pytest
import torch

from pathssl.errors import UserError
from pathssl.models.encoder import create_encoder
from pathssl.probes.segmentation.tokens import colour_tokens, encoder_tokens, token_map

NORM = {"device": "cpu", "mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}


def tiny(**more):
    torch.manual_seed(0)
    args = {"img_size": 16, "patch_size": 4, "embed_dim": 12, "depth": 1, "num_heads": 2} | more
    return create_encoder("vit_tiny_patch16_224", args).eval()


def test_the_token_map_is_timms_own_without_prefix_tokens_row_by_row():
    images = torch.randn(2, 3, 16, 24, generator=torch.Generator().manual_seed(0))
    for encoder in (tiny(), tiny(reg_tokens=3)):
        with torch.no_grad():
            ours = token_map(encoder, images)
            (theirs,) = encoder.forward_intermediates(images, indices=1, norm=True, intermediates_only=True)
        assert ours.shape == (2, 4, 6, 12)
        torch.testing.assert_close(ours.permute(0, 3, 1, 2), theirs)


def test_the_tokens_of_an_earlier_block_are_its_own():
    encoder, images = tiny(depth=3), torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        (theirs,) = encoder.forward_intermediates(images, indices=[1], norm=True, intermediates_only=True)
        torch.testing.assert_close(token_map(encoder, images, 1).permute(0, 3, 1, 2), theirs)
        torch.testing.assert_close(token_map(encoder, images, -1), token_map(encoder, images))


def test_the_encoders_tokens_are_of_the_crops_and_independent_of_batches_and_memory(task, build):
    encoder = tiny()
    maps = encoder_tokens(encoder, task, 7, **NORM)
    assert maps.shape == (60, 4, 4, 12) and maps.dtype == np.float32
    crops = np.concatenate(list(task.batches(60)))
    with torch.no_grad():
        seen = token_map(encoder, torch.from_numpy((crops.transpose(0, 3, 1, 2) / 255 - 0.5) / 0.25).float())
    np.testing.assert_allclose(maps, seen.numpy(), atol=1e-5)
    on_disk = encoder_tokens(encoder, build(cache_mib=0), 60, **NORM)
    assert isinstance(on_disk, np.memmap)
    np.testing.assert_allclose(on_disk, maps, atol=1e-5)


def test_crops_that_are_no_whole_number_of_patches_are_refused(build):
    with pytest.raises(UserError, match="image_px=18 is not a multiple of the encoder's patches of 4 px"):
        encoder_tokens(tiny(), build(image_px=18), 7, **NORM)


def test_colour_tokens_are_the_histograms_of_their_own_patches(task):
    maps = colour_tokens(task, 7, (4, 4))
    crops = np.concatenate(list(task.batches(60)))
    patch = crops[17, 8:12, 4:8].astype(int)  # row 2, column 1
    expected = [np.histogram(patch[..., c] * 10 // 256, bins=range(11))[0] / 16 for c in range(3)]
    np.testing.assert_allclose(maps[17, 2, 1], np.concatenate(expected), atol=1e-6)

"""The heads: each of a batch of models is what it would be alone, and what torch's own layers say."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from pathssl.probes.segmentation.decoders import ConvDecoder, LinearDecoder, Upsampling, dice_loss


def tokens(heads: int, h: int = 3, w: int = 5, d: int = 6) -> torch.Tensor:
    return torch.randn(heads, 2, h, w, d, generator=torch.Generator().manual_seed(0))


def test_the_linear_head_is_a_convolution_of_one_pixel():
    heads, inputs = LinearDecoder(6, 4, range(3)), tokens(3)
    for k, logits in enumerate(heads(inputs)):
        kernel = heads.weight[k][:, :, None, None]
        torch.testing.assert_close(logits, functional.conv2d(inputs[k].permute(0, 3, 1, 2), kernel, heads.bias[k]))


def test_the_convolutional_head_is_two_upsamplings_and_convolutions():
    heads, inputs = ConvDecoder(6, 4, range(3), hidden=7), tokens(3)
    assert heads(inputs).shape == (3, 2, 4, 12, 20)
    for k, logits in enumerate(heads(inputs)):
        first, second = nn.Conv2d(6, 7, 3, padding=1), nn.Conv2d(7, 4, 3, padding=1)
        own = [heads.first_weight[k], heads.first_bias[k], heads.second_weight[k], heads.second_bias[k]]
        for theirs, ours in zip([*first.parameters(), *second.parameters()], own, strict=True):
            theirs.data = ours.data
        expected = nn.Sequential(nn.Upsample(scale_factor=2), first, nn.Upsample(scale_factor=2), second)
        torch.testing.assert_close(logits, expected(inputs[k].permute(0, 3, 1, 2)))


@pytest.mark.parametrize("decoder", [LinearDecoder, lambda *which: ConvDecoder(*which, hidden=5)])
def test_a_head_begins_alike_alone_and_among_others(decoder):
    alone, among = decoder(6, 2, [2]), decoder(6, 2, range(4))
    for one, many in zip(alone.parameters(), among.parameters(), strict=True):
        assert torch.equal(one[0], many[2]) and not torch.equal(many[0], many[1])


def test_upsampling_is_torchs_bilinear():
    maps = torch.randn(2, 3, 4, 6, generator=torch.Generator().manual_seed(0))
    expected = functional.interpolate(maps, (24, 24), mode="bilinear", align_corners=False)
    torch.testing.assert_close(Upsampling(24)(maps), expected)


def test_dice_loss_by_hand_and_without_the_ignored_pixels():
    labels = torch.tensor([[[[0, 1, 1, 255]]]])
    probability = torch.tensor([0.2, 0.5, 0.9, 0.7])  # of class 1
    logits = torch.stack([(1 - probability).log(), probability.log()])[None, None, :, None, :]
    one = 2 * (0.5 + 0.9) / ((0.2 + 0.5 + 0.9) + 2)
    zero = 2 * 0.8 / ((0.8 + 0.5 + 0.1) + 1)
    assert dice_loss(logits, labels).tolist() == pytest.approx([1 - (one + zero) / 2], abs=1e-4)


def test_dice_loss_is_near_0_for_right_and_near_1_for_wrong_masks_and_of_each_head_by_itself():
    labels = torch.tensor([[[0, 1], [1, 0]]]).expand(2, 1, 2, 2)
    right = 20 * functional.one_hot(labels[0], 2).permute(0, 3, 1, 2).float()
    loss_S = dice_loss(torch.stack([right, -right]), labels)
    assert loss_S.tolist() == pytest.approx([0, 1], abs=1e-4)

"""A ViT on images of several sizes at once: their tokens pass through linear layers together, and through attention by size (DINOv2).

Fewer and larger products, at the price of taking the tokens apart and together in every block. Axes: X images, N tokens, D features.
"""

import torch
import torch.nn.functional as F
from torch import nn


def packed_features(encoder: nn.Module, sets: list[torch.Tensor]) -> torch.Tensor:
    """(all X, D): the CLS features of each set's (X, 3, H, W) images, set after set, as timm's `encoder` gives them one by one."""
    tokens = [encoder.norm_pre(encoder.patch_drop(encoder._pos_embed(encoder.patch_embed(images)))) for images in sets]
    shapes = [x.shape[:2] for x in tokens]
    rows = torch.cat([x.flatten(0, 1) for x in tokens])
    for block in encoder.blocks:
        rows = rows + _dropped(block.drop_path1, block.ls1(_attention(block.attn, block.norm1(rows), shapes)), shapes)
        rows = rows + _dropped(block.drop_path2, block.ls2(block.mlp(block.norm2(rows))), shapes)
    return encoder.norm(torch.cat([x[:, 0] for x in _apart(rows, shapes)]))


def _attention(attention: nn.Module, rows: torch.Tensor, shapes: list[tuple[int, int]]) -> torch.Tensor:
    seen = []
    for x in _apart(attention.qkv(rows), shapes):
        q, k, v = x.unflatten(-1, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4)
        given = F.scaled_dot_product_attention(attention.q_norm(q), attention.k_norm(k), v)
        seen.append(given.transpose(1, 2).flatten(2).flatten(0, 1))
    return attention.proj(torch.cat(seen))


def _dropped(path: nn.Module, rows: torch.Tensor, shapes: list[tuple[int, int]]) -> torch.Tensor:
    """Stochastic depth leaves out whole images."""
    if not getattr(path, "drop_prob", 0.0):
        return rows
    return torch.cat([path(x).flatten(0, 1) for x in _apart(rows, shapes)])


def _apart(rows: torch.Tensor, shapes: list[tuple[int, int]]) -> list[torch.Tensor]:
    """(X, N, D) of each set."""
    parts = rows.split([images * tokens for images, tokens in shapes])
    return [part.unflatten(0, shape) for part, shape in zip(parts, shapes, strict=True)]

"""Rotary position embedding, with the linear and the Llama 3 scaling (arXiv 2104.09864; Llama 3.1 model card)."""
from __future__ import annotations

import math

import torch

from labkit.glassbox.kernels import vectors
from labkit.glassbox.model_config import ModelConfig


def inverse_frequencies(config: ModelConfig) -> torch.Tensor:
    """[head_dim / 2] angles a position turns each pair by, float32."""
    exponent = torch.arange(0, config.head_dim, 2, dtype=torch.int64).float() / config.head_dim
    frequencies = 1.0 / (config.rope_theta**exponent)
    scaling = config.rope_scaling
    if scaling is None:
        return frequencies
    factor = scaling["factor"]
    if scaling["rope_type"] == "linear":
        return frequencies / factor
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    wavelength = 2 * math.pi / frequencies
    turns = scaling["original_max_position_embeddings"] / wavelength  # of each pair, over the original context
    keep = ((turns - low) / (high - low)).clamp(0, 1)  # 1: fast pairs, kept; 0: slow pairs, stretched by `factor`
    return frequencies * keep + frequencies / factor * (1 - keep)


def rope_table(config: ModelConfig, length: int) -> torch.Tensor:
    """[length, 2, head_dim] cosines and sines of every position as `rotate_` wants them, float32: sines of a first half are negative."""
    angles = torch.arange(length).float()[:, None] * inverse_frequencies(config)[None, :]
    cos, sin = angles.cos(), angles.sin()
    return torch.stack((torch.cat((cos, cos), dim=-1), torch.cat((-sin, sin), dim=-1)), dim=1)


def rotate_(x: torch.Tensor, heads: int, turns: torch.Tensor) -> None:
    """The first `heads` of x [T, all heads, head_dim] turned in place by rows of `rope_table` [T, 2, head_dim]; pairs are
    (i, i + head_dim / 2)."""
    if vectors.serves(x):
        return vectors.rotate(x.numpy(), heads, turns.numpy())
    cos, sin = turns.unsqueeze(2).unbind(1)
    first, second = x[:, :heads].chunk(2, dim=-1)
    swapped = torch.cat((second, first), dim=-1)
    x[:, :heads].mul_(cos).addcmul_(swapped, sin)

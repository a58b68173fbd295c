"""AWQ: the weights that meet large activations matter most, so they are scaled up before rounding, and their inputs down.

"AWQ: Activation-aware Weight Quantization for LLM Compression and Acceleration" (Lin et al., 2023, arXiv:2306.00978). Input feature j's
scale is mean(|x_j|)^alpha, and alpha is searched for the least error of the layer's output. Then each group's range is searched: clipped
a little, its steps become finer. The output's error on calibration inputs follows from H = mean(x x^T): an error E of the weight costs E
H E^T.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from labkit.quantization.affine import Affine, grid, nearest, rounded, store, width
from labkit.quantization.errors import check_bits, check_statistic, check_weight

ALPHAS = 20  # from 0 to 0.95
SHRINKS = 20  # from 1 to 0.525


def quantize(
    weight: Tensor,
    second_moment: Tensor,
    input_mean: Tensor | None = None,
    bits: int = 4,
    per: str = "group",
    group_size: int = 64,
    symmetric: bool = False,
    clip: bool = True,
) -> Affine:
    """weight [outputs, inputs] on a grid of 2**bits values, for inputs with `second_moment` H [inputs, inputs] = mean of x x^T.

    With `input_mean` [inputs], the mean absolute value of each feature, scales are searched and kept as `input_scale`; without it the
    weight is taken as it is (its scale is in the norm before it already: `folding`), and only its groups are clipped.
    """
    check_weight(weight)
    check_bits(bits, range(2, 9))
    check_statistic("second_moment", second_moment, (weight.shape[1],) * 2, "AWQ")
    size = width(tuple(weight.shape), per, group_size)
    weight, second_moment = weight.float(), second_moment.float()
    scale = None
    if input_mean is not None:
        scale = search([weight], second_moment, input_mean, bits, per, group_size, symmetric)
        weight, second_moment = weight * scale, second_moment / torch.outer(scale, scale)
    grouped = weight.view(1, 1, -1) if per == "tensor" else weight.view(weight.shape[0], -1, size)
    shrink = clipping(grouped, second_moment, bits, symmetric) if clip and per != "tensor" else 1.0
    scales, zeros = grid(grouped, bits, symmetric, shrink)
    codes = nearest(grouped, scales, zeros, bits).view(weight.shape)
    return store(codes, scales.squeeze(-1), None if symmetric else zeros.squeeze(-1), bits, size, input_scale=scale)


def search(
    weights: Sequence[Tensor],
    second_moment: Tensor,
    input_mean: Tensor,
    bits: int = 4,
    per: str = "group",
    group_size: int = 64,
    symmetric: bool = False,
) -> Tensor:
    """The scale [inputs] for weights [outputs, inputs] that share their inputs: the power of `input_mean` with the least error in all."""
    check_statistic("input_mean", input_mean, weights[0].shape[1:], "AWQ")
    size = width(tuple(weights[0].shape), per, group_size)
    best, least = torch.ones_like(input_mean), float("inf")
    for step in range(ALPHAS):
        scale = input_mean.float().clamp(min=1e-4) ** (step / ALPHAS)
        scale = scale / (scale.max() * scale.min()).sqrt()
        loss = 0.0
        for weight in weights:
            grouped = (weight * scale).view(1, 1, -1) if per == "tensor" else (weight * scale).view(weight.shape[0], -1, size)
            values = rounded(grouped, *grid(grouped, bits, symmetric), bits).view(weight.shape)
            loss += output_error(values / scale - weight, second_moment)
        if loss < least:
            best, least = scale, loss
    return best


def clipping(grouped: Tensor, second_moment: Tensor, bits: int, symmetric: bool) -> Tensor:
    """How far to shrink the range of each group [outputs, groups, size], as [outputs, groups, 1]: the least error by the group's own
    inputs."""
    size = grouped.shape[-1]
    diagonal = torch.stack([second_moment[start : start + size, start : start + size] for start in range(0, len(second_moment), size)])
    best = torch.ones_like(grouped[..., :1])
    least = torch.full_like(best, float("inf"))
    for step in range(SHRINKS):
        shrink = 1 - 0.025 * step
        error = rounded(grouped, *grid(grouped, bits, symmetric, shrink), bits) - grouped
        loss = (torch.einsum("ogi,gij->ogj", error, diagonal) * error).sum(-1, keepdim=True)
        best = torch.where(loss < least, shrink, best)
        least = torch.minimum(loss, least)
    return best


def output_error(error: Tensor, second_moment: Tensor) -> float:
    """The mean squared error of the outputs, summed over them, for an error [outputs, inputs] of the weight."""
    return ((error @ second_moment) * error).sum().item()

"""GPTQ: round the weights column after column, and let the columns that are still to come make up for the error.

"GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers" (Frantar et al., 2022, arXiv:2210.17323), after
Optimal Brain Quantization (Frantar & Alistarh, 2022, arXiv:2208.11580). What counts is the layer's output on calibration inputs x: the
error E of the weight costs E H E^T with H = mean(x x^T). Where two inputs go up and down together, an error in the weight of one can be
cancelled in the other's.
"""

from __future__ import annotations

import torch
from torch import Tensor

from labkit.quantization.affine import Affine, grid, nearest, store, width
from labkit.quantization.errors import QuantizationError, check_bits, check_statistic, check_weight

COLUMNS = 128  # worked on together before the rest of the matrix is updated: the same result, in fewer and larger products


def quantize(
    weight: Tensor,
    second_moment: Tensor,
    bits: int = 4,
    per: str = "group",
    group_size: int = 64,
    symmetric: bool = True,
    act_order: bool = True,
    damping: float = 0.01,
) -> Affine:
    """weight [outputs, inputs] on a grid of 2**bits values, for inputs with `second_moment` H [inputs, inputs] = mean of x x^T.

    `act_order` rounds the inputs with the greatest H first, while many others can still make up for them. Groups stay those of the original
    order, with grids fitted in advance ("static groups"), so that no server needs an index of groups. `damping`: this share of the mean
    diagonal is added to H.
    """
    check_weight(weight)
    check_bits(bits, range(2, 9))
    check_statistic("second_moment", second_moment, (weight.shape[1],) * 2, "GPTQ")
    size = width(tuple(weight.shape), per, group_size)
    weight = weight.float().clone()
    weight[:, second_moment.diagonal() == 0] = 0  # an input that is never anything but 0
    scales, zeros = grid(weight.view(1, 1, -1) if per == "tensor" else weight.view(weight.shape[0], -1, size), bits, symmetric)
    scales, zeros = scales.squeeze(-1), zeros.squeeze(-1)
    order = torch.arange(weight.shape[1], device=weight.device)
    if act_order:
        order = second_moment.diagonal().argsort(descending=True, stable=True)
    codes = torch.empty_like(weight)
    codes[:, order] = compensate(
        weight[:, order],
        inverse_factor(second_moment[order][:, order], damping),
        scales[:, order // size],
        zeros[:, order // size],
        bits,
    )
    return store(codes, scales, None if symmetric else zeros, bits, size)


def compensate(weight: Tensor, upper: Tensor, scales: Tensor, zeros: Tensor, bits: int) -> Tensor:
    """Codes [outputs, inputs] of the weight, rounded column by column from left to right: algorithm 1 of the paper.

    `upper` [inputs, inputs] is the factor of the inverse of H, `scales` and `zeros` [outputs or 1, inputs] hold each column's grid.
    """
    inputs = weight.shape[1]
    rest = weight.clone()
    codes = torch.empty_like(weight)
    for start in range(0, inputs, COLUMNS):
        end = min(start + COLUMNS, inputs)
        errors = torch.zeros_like(rest[:, start:end])
        for column in range(start, end):
            codes[:, column] = nearest(rest[:, column], scales[:, column], zeros[:, column], bits)
            value = (codes[:, column] - zeros[:, column]) * scales[:, column]
            error = (rest[:, column] - value) / upper[column, column]
            rest[:, column:end] -= torch.outer(error, upper[column, column:end])
            errors[:, column - start] = error
        rest[:, end:] -= errors @ upper[start:end, end:]
    return codes


def inverse_factor(second_moment: Tensor, damping: float) -> Tensor:
    """The upper Cholesky factor of the damped H's inverse, float32: row j holds how column j's error is shared out among later columns."""
    damped = second_moment.double().clone()
    diagonal = damped.diagonal()
    diagonal[diagonal == 0] = 1
    diagonal += damping * diagonal.mean()
    try:
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
        return torch.linalg.cholesky(inverse, upper=True).float()
    except torch.linalg.LinAlgError as error:
        raise QuantizationError(
            f"the second moment of the inputs cannot be inverted ({error}): calibrate with more text, or raise damping above {damping}"
        ) from error

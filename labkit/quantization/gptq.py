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
    act_order: bool = False,
    damping: float = 0.01,
) -> Affine:
    """weight [outputs, inputs] on a grid of 2**bits values, for inputs with `second_moment` H [inputs, inputs] = mean of x x^T.

    `act_order` rounds the inputs with the greatest H first. The groups are then those of the original order with grids fitted in advance
    ("static groups"), so that no server needs an index of groups. `damping`: this share of the mean diagonal is added to H.
    """
    check_weight(weight)
    check_bits(bits, range(2, 9))
    check_statistic("second_moment", second_moment, (weight.shape[1],) * 2, "GPTQ")
    size = width(tuple(weight.shape), per, group_size)
    weight = weight.float().clone()
    dead = second_moment.diagonal() == 0
    weight[:, dead] = 0  # an input that is never anything but 0
    upper = inverse_factor(second_moment, damping)
    order = None
    if act_order:
        order = second_moment.diagonal().argsort(descending=True, stable=True)
        upper = inverse_factor(second_moment[order][:, order], damping)
    grids = Grids(weight, bits, per, size, symmetric, static=act_order)
    codes = compensate(weight, upper, order, grids)
    return store(codes, grids.scales, None if symmetric else grids.zeros, bits, size)


class Grids:
    """The grid of each group: scales and zeros [outputs or 1, groups]. Static ones are fitted to the original weights, the others when
    their group begins, to weights that make up for earlier errors by then."""

    def __init__(self, weight: Tensor, bits: int, per: str, size: int, symmetric: bool, static: bool) -> None:
        self.bits, self.size, self.symmetric = bits, size, symmetric
        self.static = static or per != "group"
        grouped = weight.view(1, 1, -1) if per == "tensor" else weight.view(weight.shape[0], -1, size)
        scales, zeros = grid(grouped, bits, symmetric)
        self.scales, self.zeros = scales.squeeze(-1), zeros.squeeze(-1)

    def fit(self, group: int, weights: Tensor) -> None:
        """Fit the grid of a group anew to its weights [outputs, size]."""
        scales, zeros = grid(weights, self.bits, self.symmetric)
        self.scales[:, group], self.zeros[:, group] = scales[:, 0], zeros[:, 0]

    def round(self, column: int, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Codes and values of the weights [outputs] of a column."""
        group = column // self.size
        scales, zeros = self.scales[:, group], self.zeros[:, group]
        codes = nearest(weights, scales, zeros, self.bits)
        return codes, (codes - zeros) * scales


def compensate(weight: Tensor, upper: Tensor, order: Tensor | None, grids: Grids) -> Tensor:
    """Codes [outputs, inputs] of the weight, rounded column by column in `order` (None: as they stand). Algorithm 1 of the paper."""
    inputs = weight.shape[1]
    order = torch.arange(inputs, device=weight.device) if order is None else order
    columns = order.tolist()
    rest = weight[:, order]
    codes = torch.empty_like(weight)
    block = COLUMNS
    if not grids.static:  # a group must not begin in one block and end in the next
        block = max(1, COLUMNS // grids.size) * grids.size
    for start in range(0, inputs, block):
        end = min(start + block, inputs)
        errors = torch.zeros_like(rest[:, start:end])
        for place in range(start, end):
            if not grids.static and place % grids.size == 0:
                grids.fit(place // grids.size, rest[:, place : place + grids.size])
            column = columns[place]
            codes[:, column], value = grids.round(column, rest[:, place])
            error = (rest[:, place] - value) / upper[place, place]
            rest[:, place:end] -= torch.outer(error, upper[place, place:end])
            errors[:, place - start] = error
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

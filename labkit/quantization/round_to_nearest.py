"""Round-to-nearest: every weight goes to the closest value of an evenly spaced grid. What the other methods have to beat.

One grid for the tensor, for each output channel, or for each group of weights in a channel: the finer, the closer the grid lies to the
weights, and the more scales there are to store ("A White Paper on Neural Network Quantization", Nagel et al., 2021, arXiv:2106.08295;
groups: "Q-BERT", Shen et al., 2019, arXiv:1909.05840).
"""

from __future__ import annotations

import torch
from torch import Tensor

from labkit.quantization.affine import Affine, grid, nearest, store, width
from labkit.quantization.errors import check_bits, check_weight


def quantize(
    weight: Tensor,
    bits: int = 4,
    per: str = "group",
    group_size: int = 64,
    symmetric: bool = True,
    scale_dtype: torch.dtype = torch.float16,
) -> Affine:
    """weight [outputs, inputs] on a grid of 2**bits values `per` "tensor", "channel" or "group" of `group_size` inputs.

    `symmetric` grids have no zero point to store. Raises QuantizationError for bits beyond 2 to 8 and groups that do not divide.
    """
    check_weight(weight)
    check_bits(bits, range(2, 9))
    size = width(tuple(weight.shape), per, group_size)
    grouped = weight.float().view(weight.shape[0], -1, size)
    scales, zeros = grid(grouped.reshape(1, 1, -1) if per == "tensor" else grouped, bits, symmetric, dtype=scale_dtype)
    codes = nearest(grouped, scales, zeros, bits).view(weight.shape)
    return store(codes, scales.squeeze(-1), None if symmetric else zeros.squeeze(-1), bits, size, scale_dtype)

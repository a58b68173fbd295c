"""SmoothQuant: weights and activations in 8 bits, after the outliers of the activations have been moved into the weights.

"SmoothQuant: Accurate and Efficient Post-Training Quantization for Large Language Models" (Xiao et al., 2022, arXiv:2211.10438). Dividing
input feature j by s_j and multiplying the weight's column j by it changes nothing, but balances who has the outliers: s_j =
peak(x_j)^alpha / peak(w_j)^(1 - alpha). The division costs nothing where the norm before the layer takes it over (`folding`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from labkit.quantization import int8
from labkit.quantization.errors import QuantizationError, check_statistic, check_weight
from labkit.quantization.packed import Packed


@dataclass(slots=True)
class W8A8(Packed):
    """weight = codes * scales / input_scale; inputs are rounded to 8 bits as they come, with a scale for each token."""

    quantizes_inputs: ClassVar[bool] = True

    shape: tuple[int, int]
    codes: Tensor  # int8 [outputs, inputs]
    scales: Tensor  # float32 [outputs, 1]
    input_scale: Tensor | None = None  # [inputs], by which inputs are divided; None where the norm before does it

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Tensor:
        weight = self.codes * self.scales
        return (weight if self.input_scale is None else weight / self.input_scale).to(dtype)

    def levels(self, row: int, column: int) -> Tensor:
        values = torch.arange(-127.0, 128.0, device=self.codes.device) * self.scales[row]
        return values if self.input_scale is None else values / self.input_scale[column]

    def linear(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """Rounds each token of x [..., inputs] to 8 bits and multiplies integers."""
        rows = x.reshape(-1, x.shape[-1]).float()
        product = int8.linear(rows if self.input_scale is None else rows / self.input_scale, self.codes, self.scales * 127)
        product = product.to(x.dtype).view(*x.shape[:-1], -1)
        return product if bias is None else product + bias


def quantize(weight: Tensor, input_peak: Tensor | None = None, alpha: float = 0.5) -> W8A8:
    """weight [outputs, inputs] to int8 per output channel, for inputs that are rounded to int8 per token.

    With `input_peak` [inputs], the greatest absolute value of each feature in a calibration, it is smoothed first; without, it is taken
    as it is.
    """
    check_weight(weight)
    weight = weight.float()
    scale = None
    if input_peak is not None:
        scale = smoothing([weight], input_peak, alpha)
        weight = weight * scale
    codes, absmax = int8.by_row(weight)
    return W8A8(tuple(weight.shape), codes, absmax / 127, scale)


def smoothing(weights: Sequence[Tensor], input_peak: Tensor, alpha: float = 0.5) -> Tensor:
    """The factor [inputs] for weights [outputs, inputs] that share their inputs. `alpha`: how much of the difficulty the weights take, 0
    to 1."""
    check_statistic("input_peak", input_peak, weights[0].shape[1:], "SmoothQuant")
    if not 0 <= alpha <= 1:
        raise QuantizationError(f"alpha is {alpha}: it is a share, from 0 (leave the activations as they are) to 1 (flatten them entirely)")
    peaks = torch.stack([weight.abs().amax(0) for weight in weights]).amax(0).clamp(min=1e-5)
    return (input_peak.float().clamp(min=1e-5) ** alpha / peaks ** (1 - alpha)).clamp(min=1e-5)

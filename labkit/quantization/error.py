"""What quantization does to a layer: errors of its weights and of its outputs, by channel; and the activations that make it hard."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from labkit.quantization.packed import Packed


@dataclass(slots=True)
class LayerError:
    """Errors are relative: the root mean square of the error over that of the original. 0 is perfect, 1 as bad as all zeros."""

    weight: float
    output: float | None  # of the layer's outputs on its calibration inputs; None where these are not known
    channels: Tensor  # float32 [outputs]: `output` of each channel, or `weight` where the inputs are not known

    @property
    def snr(self) -> float:
        """Signal to noise of the weights in decibels; 6 more for each bit, as a rule."""
        return -20 * math.log10(self.weight) if self.weight else math.inf

    def summary(self) -> dict[str, float | int | None]:
        """For JSON; the channel is the worst one."""
        worst = int(self.channels.argmax())
        figures = {"weight": self.weight, "output": self.output, "worst": self.channels[worst].item(), "snr": self.snr}
        return {name: value if value is None else round(value, 6) for name, value in figures.items()} | {"worst_channel": worst}


def layer_error(weight: Tensor, packed: Packed, second_moment: Tensor | None = None) -> LayerError:
    """The error of `packed` against weight [outputs, inputs], for inputs with `second_moment` [inputs, inputs] = mean of x x^T.

    Only the rounding of weights is seen; what a method does to the inputs is not.
    """
    weight = weight.detach().float()
    error = packed.dequantize() - weight
    lost, had = (error**2).sum(1), (weight**2).sum(1)
    in_weights = ratio(lost.sum(), had.sum())
    if second_moment is None:
        return LayerError(in_weights.item(), None, ratio(lost, had))
    moment = second_moment.float()
    lost, had = (((matrix @ moment) * matrix).sum(1).clamp(min=0) for matrix in (error, weight))
    return LayerError(in_weights.item(), ratio(lost.sum(), had.sum()).item(), ratio(lost, had))


def ratio(lost: Tensor, had: Tensor) -> Tensor:
    """Square root of lost / had; 0 where nothing was lost."""
    return torch.where(lost > 0, lost / had.clamp(min=1e-30), 0).sqrt()


@dataclass(slots=True)
class Outliers:
    """The loud features of a layer's inputs."""

    features: list[int]  # those whose peak is at least `threshold`, loudest first
    share: float  # of all features
    peak: float  # the greatest absolute value
    spread: float  # that peak over the median peak: how coarse one scale for all features would be for most of them


def outliers(input_peak: Tensor, threshold: float = 6.0) -> Outliers:
    """The outliers among features with these peaks [inputs], by LLM.int8()'s measure (arXiv:2208.07339): a value of `threshold` or more."""
    order = input_peak.argsort(descending=True)
    loud = order[input_peak[order] >= threshold].tolist()
    peak = input_peak.max().item()
    return Outliers(loud, len(loud) / len(input_peak), peak, peak / max(input_peak.median().item(), 1e-30))

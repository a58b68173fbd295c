"""SqueezeLLM: each output channel gets 2**bits values of its own, placed where the sensitive weights are; a few outliers are kept apart.

"SqueezeLLM: Dense-and-Sparse Quantization" (Kim et al., 2023, arXiv:2306.07629). The values are the centres of a one-dimensional k-means
in which each weight counts by its sensitivity, the mean squared gradient of the loss (the diagonal of the Fisher information). The
largest weights, and those of the greatest sensitivity, go into a sparse matrix and no longer stretch the rest.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from labkit.quantization.errors import QuantizationError, check_bits, check_statistic, check_weight
from labkit.quantization.packed import Packed
from labkit.quantization.packing import pack, unpack

ROUNDS = 40


@dataclass(slots=True)
class DenseAndSparse(Packed):
    """weight = table[code], but for the sparse weights, in compressed sparse row form."""

    shape: tuple[int, int]
    bits: int
    codes: Tensor  # uint8 [outputs, bytes of a row]
    table: Tensor  # float16 [outputs, 2**bits], ascending
    row_starts: Tensor  # int32 [outputs + 1]: where in `columns` and `values` each row begins
    columns: Tensor  # int32 [sparse]
    values: Tensor  # float16 [sparse]

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Tensor:
        codes = unpack(self.codes, self.bits, self.shape[1])
        weight = self.table.float().gather(1, codes.long())
        rows = torch.arange(self.shape[0], device=codes.device).repeat_interleave(self.row_starts.diff())
        weight[rows, self.columns.long()] = self.values.float()
        return weight.to(dtype)

    def levels(self, row: int, column: int) -> Tensor:
        return self.table[row].float()


def quantize(
    weight: Tensor, sensitivity: Tensor | None = None, bits: int = 4, outliers: float = 0.004, sensitive: float = 0.0005
) -> DenseAndSparse:
    """weight [outputs, inputs] as one of 2**bits values of its row each.

    `sensitivity` [outputs, inputs]: mean squared gradients; None: all weights count the same. `outliers` and `sensitive` are the shares of
    weights that are kept in the sparse part for their size and for their sensitivity; 0 and 0 for a dense matrix only.
    """
    check_weight(weight)
    check_bits(bits, range(2, 9))
    if sensitivity is None:
        sensitivity = torch.ones_like(weight, dtype=torch.float32)
    check_statistic("sensitivity", sensitivity, tuple(weight.shape), "SqueezeLLM")
    if min(outliers, sensitive) < 0 or outliers + sensitive > 0.5:
        raise QuantizationError(f"outliers={outliers}, sensitive={sensitive}: shares of the weights, together 0 to 0.5, such as 0.0045")
    weight, sensitivity = weight.float(), sensitivity.float()
    apart = greatest(weight.abs(), outliers) | greatest(sensitivity, sensitive)
    table, codes = cluster(weight, sensitivity.clamp(min=1e-12 * sensitivity.max()).masked_fill(apart, 0), 2**bits)
    rows, columns = apart.nonzero(as_tuple=True)
    starts = torch.nn.functional.pad(apart.sum(1).cumsum(0), (1, 0)).int()
    return DenseAndSparse(tuple(weight.shape), bits, pack(codes, bits), table, starts, columns.int(), weight[rows, columns].half())


def greatest(values: Tensor, share: float) -> Tensor:
    """A mask of this share of the values, the greatest ones."""
    count = round(share * values.numel())
    mask = torch.zeros(values.numel(), dtype=torch.bool, device=values.device)
    mask[values.flatten().topk(count).indices] = True
    return mask.view(values.shape)


def cluster(weight: Tensor, importance: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """`count` centres for each row of weights [rows, n], ascending float16, and the nearest one of each weight: Lloyd's algorithm in one
    dimension.

    Begins between evenly spaced centres and those that hold the same share of importance each.
    """
    present = importance > 0
    low = weight.masked_fill(~present, torch.inf).amin(1, keepdim=True).nan_to_num(posinf=0)
    high = weight.masked_fill(~present, -torch.inf).amax(1, keepdim=True).nan_to_num(neginf=0)
    shares = (torch.arange(count, device=weight.device) + 0.5) / count
    ordered, places = weight.sort(1)
    mass = importance.gather(1, places).cumsum(1)
    wanted = shares * mass[:, -1:]
    at = torch.searchsorted(mass, wanted).clamp(max=weight.shape[1] - 1)
    centres = ((low + (high - low) * shares) + ordered.gather(1, at)) / 2
    for _ in range(ROUNDS):
        codes = assign(weight, centres)
        total = torch.zeros_like(centres).scatter_add_(1, codes, importance)
        moved = torch.zeros_like(centres).scatter_add_(1, codes, importance * weight) / total
        moved = torch.where(total > 0, moved, centres).sort(1).values
        if torch.equal(moved, centres):
            break
        centres = moved
    table = centres.half()
    return table, assign(weight, table.float())


def assign(weight: Tensor, centres: Tensor) -> Tensor:
    """The index of the nearest of the ascending centres [rows, count] for each weight [rows, n]."""
    return torch.searchsorted(((centres[:, 1:] + centres[:, :-1]) / 2).contiguous(), weight.contiguous())

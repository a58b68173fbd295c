"""One layer of the paged KV cache in 8 bits: a code for each number, a scale for each token and head.

KIVI ("A Tuning-Free Asymmetric 2bit Quantization for KV Cache", Liu et al., 2024, arXiv:2402.02750) gives values a scale per token and keys
one per channel over a run of tokens, because some channels of the keys are large for every token. A paged cache takes its tokens one by
one: a scale over a run of them would have to change, and with it the codes that are there already, whenever a larger number comes; KIVI
keeps the newest tokens in full precision until a run is complete. Here keys have a scale per token and head too, which at 8 bits costs
little. So what is in a slot depends on its token alone, not on chunks or batches, and prefix sharing and recomputing after a preemption
find the same codes again.
"""
from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from labkit.quantization.kv_cache import QuantizedKV, quantize

SCALE_BYTES = 2  # float16


@dataclass(slots=True)
class QuantizedLayer:
    """Takes the place of a layer's tensor. Zeros until they are written, as that is."""

    format: str  # "int8", "e4m3" or "e5m2"
    codes: Tensor  # int8 or uint8 [num_blocks, 2, num_kv_heads, block_size, head_dim]
    scales: Tensor  # float16 [num_blocks, 2, num_kv_heads, block_size, 1]

    @classmethod
    def zeros(cls, shape: tuple[int, ...], format: str, device: torch.device) -> QuantizedLayer:
        """shape: [num_blocks, 2, num_kv_heads, block_size, head_dim]."""
        codes = torch.zeros(shape, dtype=torch.int8 if format == "int8" else torch.uint8, device=device)
        return cls(format, codes, torch.zeros((*shape[:-1], 1), dtype=torch.float16, device=device))

    @property
    def shape(self) -> torch.Size:
        return self.codes.shape

    def write(self, key_value: Tensor, rows: Tensor) -> None:
        """Store `key_value` [T, 2, num_kv_heads, head_dim] into rows [T * 2 * num_kv_heads] (see `attention.kv_rows`)."""
        stored = quantize(key_value, self.format, "token")
        self.codes.flatten(0, 3).index_copy_(0, rows, stored.codes.flatten(0, 2))
        self.scales.flatten(0, 3).index_copy_(0, rows, stored.scales.flatten(0, 2))

    def read(self, pieces: Tensor, dtype: torch.dtype) -> Tensor:
        """Pieces [N] of blocks (see `GatherAttention`) as numbers [N, block_size, head_dim]."""
        codes, scales = (part.flatten(0, 2).index_select(0, pieces) for part in (self.codes, self.scales))
        return QuantizedKV(self.format, codes, scales).dequantize(dtype)

"""The bytes behind the block ids: one tensor for all layers, allocated once; or for each one of codes and one of scales."""
from __future__ import annotations

import gc
from pathlib import Path

import torch

from labkit.glassbox.model_config import ModelConfig
from labkit.glassbox.quantization import KV_FORMATS
from labkit.glassbox.quantized_kv import SCALE_BYTES, QuantizedLayer

CGROUP = Path("/sys/fs/cgroup")


class OutOfMemory(MemoryError):
    """The KV pool does not fit. The message has the arithmetic and a number of blocks that does."""


class KVCache:
    """`layers[i]` has shape [num_blocks, 2, num_kv_heads, block_size, head_dim]; index 1 is key, value. All are views of `tensor`, which is
    None where the cache is quantized.

    Token j of a request lies in block `block_table[j // block_size]`, slot `j % block_size`. Keys are stored after RoPE.
    What one head reads of a block is one piece of memory. `kv_cache_dtype` "auto": numbers of `dtype`; otherwise 8-bit codes with scales.
    """

    def __init__(
        self,
        config: ModelConfig,
        num_blocks: int,
        block_size: int,
        dtype: torch.dtype,
        device: torch.device,
        kv_cache_dtype: str = "auto",
    ) -> None:
        shape = (num_blocks, 2, config.num_key_value_heads, block_size, config.head_dim)
        self.block_bytes = block_bytes(config, block_size, dtype, kv_cache_dtype)
        available = available_bytes(device)
        if num_blocks * self.block_bytes > available:
            raise OutOfMemory(
                f"the KV pool does not fit: {num_blocks} blocks x {self.block_bytes / 2**20:.3g} MiB = "
                f"{num_blocks * self.block_bytes / 2**30:.1f} GiB, and {available / 2**30:.1f} GiB of {device.type} memory are free; "
                f"lower --num-gpu-blocks-override to {int(available * 0.9) // self.block_bytes} or less"
            )
        self.block_size = block_size
        format = KV_FORMATS[kv_cache_dtype]
        # Zeros, not garbage: padding reads block 0, and 0 x NaN would be NaN.
        self.tensor = torch.zeros((config.num_hidden_layers, *shape), dtype=dtype, device=device) if format is None else None
        self.layers = (
            list(self.tensor) if format is None else [QuantizedLayer.zeros(shape, format, device) for _ in range(config.num_hidden_layers)]
        )


def block_bytes(config: ModelConfig, block_size: int, dtype: torch.dtype, kv_cache_dtype: str = "auto") -> int:
    """Bytes of one block in all layers: keys and values of `block_size` tokens, scales included."""
    vector = config.head_dim * dtype.itemsize if KV_FORMATS[kv_cache_dtype] is None else config.head_dim + SCALE_BYTES
    return block_size * 2 * config.num_key_value_heads * vector * config.num_hidden_layers


def available_bytes(device: torch.device) -> int:
    """Memory that can still be taken: of the GPU, or of the machine within the limit of this process's control group."""
    if device.type == "cuda":
        gc.collect()
        torch.cuda.empty_cache()  # what torch keeps of tensors that are gone is not free to the driver
        return torch.cuda.mem_get_info(device)[0]
    import psutil

    available = psutil.virtual_memory().available
    try:
        limit = int((CGROUP / "memory.max").read_text())
        return min(available, limit - int((CGROUP / "memory.current").read_text()))
    except (OSError, ValueError):  # no control group, or no limit ("max")
        return available

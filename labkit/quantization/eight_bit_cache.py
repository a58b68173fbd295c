"""transformers' model with its KV cache in 8 bits: what attention reads is what the codes give back.

A scale for each token and head, of keys and of values, as the lab's engine keeps them in its blocks; what is stored for a token does not
depend on its neighbours. KIVI's scales per channel for keys (arXiv:2402.02750) need a run of tokens: `kv_cache.quantize_keys`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from labkit.quantization.errors import check_choice
from labkit.quantization.kv_cache import PEAKS, quantize


class EightBitCache(DynamicCache):
    """A growing cache whose keys and values [batch, heads, tokens, head_dim] went through `format` once."""

    def __init__(self, format: str) -> None:
        super().__init__()
        check_choice("KV format", format, PEAKS)
        self.format = format
        self.nbytes = 0  # of codes and scales, for all tokens so far

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, cache_kwargs: dict[str, Any] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Store the new tokens of a layer, and give all of its tokens back."""
        stored = [quantize(states, self.format) for states in (key_states, value_states)]
        self.nbytes += sum(one.nbytes for one in stored)
        keys, values = (one.dequantize(states.dtype) for one, states in zip(stored, (key_states, value_states), strict=True))
        return super().update(keys, values, layer_idx, cache_kwargs)


def keep_in_8_bits(model: nn.Module, format: str) -> None:
    """From now on every sequence that `model` begins has an `EightBitCache` of its own."""

    def give(module: nn.Module, arguments: tuple, words: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        if words.get("past_key_values") is None:
            words = words | {"past_key_values": EightBitCache(format), "use_cache": True}
        return arguments, words

    check_choice("KV format", format, PEAKS)
    model.register_forward_pre_hook(give, with_kwargs=True)


def bytes_per_token(model: nn.Module, format: str) -> int:
    """Bytes of cache that one token needs over all layers, scales included."""
    cache = EightBitCache(format)
    with torch.inference_mode():
        model(torch.zeros(1, 1, dtype=torch.long, device=next(model.parameters()).device), past_key_values=cache, use_cache=True)
    return cache.nbytes

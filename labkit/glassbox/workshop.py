"""Where weights, attention and KV pools of a runner are made: at the start, and again whenever a running engine is quantized otherwise."""
from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from labkit.glassbox.attention import AttentionBackend
from labkit.glassbox.gather_attention import GatherAttention
from labkit.glassbox.gpu.attention import TritonAttention, has_triton
from labkit.glassbox.gpu.decode_graphs import DecodeGraphs
from labkit.glassbox.kernels.step import Weights
from labkit.glassbox.kv_cache import KVCache, block_bytes
from labkit.glassbox.loader import load_model, put_weights, targets
from labkit.glassbox.model import CausalLM
from labkit.glassbox.model_config import ModelConfig
from labkit.glassbox.options import EngineOptions, OptionsError
from labkit.glassbox.packed_linear import can_pack, pack_linears
from labkit.glassbox.paged_attention import PagedAttention
from labkit.glassbox.quantization import Quantization
from labkit.glassbox.quantized_linear import weight_bytes
from labkit.glassbox.whole_step import WholeStep, stack_weights
from labkit.models.registry import ModelError
from labkit.quantization.errors import QuantizationError
from labkit.quantization.methods import method

log = logging.getLogger("labkit.glassbox")
Progress = Callable[[str, float], None]
"""What is being done, and the share of all that is done."""


def log_progress(what: str, share: float) -> None:
    """The progress of a quantization as lines of the log."""
    log.info("quantizing: %s (%.0f %%)", what, 100 * share)


@dataclass(slots=True)
class Parts:
    """What a quantization decides of a runner. Bytes are exact: weights, and one KV block in all layers."""

    quantization: Quantization
    model: CausalLM
    attention: AttentionBackend
    stacked: Weights | None  # the same for `WholeStep`, where it computes them
    weight_bytes: int
    block_bytes: int


class Workshop:
    """For one checkpoint and one engine's resolved options. `parts` are those in use; `prepare` makes others and changes nothing."""

    def __init__(self, folder: Path, config: ModelConfig, options: EngineOptions, dtype: torch.dtype, device: torch.device) -> None:
        self.folder, self.config, self.options, self.dtype, self.device = folder, config, options, dtype, device
        self.parts: Parts | None = None

    def prepare(self, wanted: Quantization, progress: Progress = log_progress) -> Parts:
        """Raises `QuantizationError`, `ModelError` or `OptionsError`. The weights in use are taken over where they are what is wanted."""
        attention = choose_attention(self.options.attention_backend, self.config, self.dtype, self.device, wanted.kv_cache_dtype)
        size = block_bytes(self.config, self.options.block_size, self.dtype, wanted.kv_cache_dtype)
        if self.parts is not None and self.parts.quantization.same_weights(wanted):
            return Parts(wanted, self.parts.model, attention, self.parts.stacked, self.parts.weight_bytes, size)
        repack = use_packed(self.options.linear_backend, self.dtype, self.device)
        model = self._load(self.dtype) if wanted.method is None else self._quantize(wanted, progress)
        weights = weight_bytes(model)
        panels = pack_linears(model) if repack else {}
        stacked = None if self.options.enforce_eager else stack_weights(model, panels)
        return Parts(wanted, model, attention, stacked, weights, size)

    def pool(self, parts: Parts, num_blocks: int) -> KVCache:
        """An empty pool. Raises `OutOfMemory`."""
        log.info("allocating the KV pool: %d blocks of %d tokens", num_blocks, self.options.block_size)
        kv_cache_dtype = parts.quantization.kv_cache_dtype
        return KVCache(self.config, num_blocks, self.options.block_size, self.dtype, self.device, kv_cache_dtype)

    def whole_step(self, parts: Parts, kv_cache: KVCache) -> WholeStep | DecodeGraphs | None:
        """A quicker way for most steps over these parts; None where all are computed layer by layer."""
        if parts.stacked is not None and isinstance(parts.attention, PagedAttention):
            return WholeStep(parts.model, parts.stacked, kv_cache)
        plain = parts.quantization.method is None and self.config.quant_method is None
        if plain and isinstance(parts.attention, TritonAttention) and not self.options.enforce_eager:
            return DecodeGraphs(parts.model, kv_cache, parts.attention, self.options.max_num_batched_tokens, self.options.max_model_len)
        return None

    def _load(self, dtype: torch.dtype) -> CausalLM:
        options = self.options
        dummy = options.load_format == "dummy"
        return load_model(self.folder, self.config, options.max_model_len, dtype, self.device, dummy, options.seed)

    def _quantize(self, wanted: Quantization, progress: Progress) -> CausalLM:
        """Quantize the checkpoint's own layers, in float32, and take over what became of them."""
        if self.config.quant_method is not None:
            raise QuantizationError(
                f"{self.folder} is already quantized, by {self.config.quant_method}: leave the quantization out and serve it as it is, or "
                f"give the original checkpoint, in float32, bfloat16 or float16"
            )
        from labkit.quantization.model import quantize_model

        original = self._original()
        ids = None
        if method(wanted.method).calibrates:
            progress("calibration text", 0.0)
            ids = self._calibration_text(original, wanted)
        result = quantize_model(original, wanted.method, wanted.bits, wanted.group_size, ids, progress)
        model = CausalLM(self.config, self.options.max_model_len, self.dtype, self.device)
        put_weights(model, original.state_dict().items(), result.linears, self.folder)
        return model.eval().requires_grad_(False)

    def _original(self) -> torch.nn.Module:
        """The model as transformers has it, whose layers are those that the methods know."""
        from transformers import AutoConfig, AutoModelForCausalLM

        original = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(self.folder), dtype=torch.float32).to(self.device).eval()
        left = original.load_state_dict(dict(targets(self._load(torch.float32))), strict=False)
        if left.unexpected_keys or set(left.missing_keys) - {"lm_head.weight"}:
            name = [*left.unexpected_keys, *left.missing_keys][0]
            raise ModelError(f"{self.folder}: transformers has another idea of this model ({name}): serve it without quantization")
        return original

    def _calibration_text(self, original: torch.nn.Module, wanted: Quantization) -> torch.Tensor:
        from transformers import AutoTokenizer

        from labkit.quantization.text import LENGTH, calibration_text

        if not (self.folder / "tokenizer.json").exists():
            raise QuantizationError(
                f"{wanted.method} needs a calibration text, and {self.folder} has no tokenizer.json: save the model's tokenizer there, or "
                f"take a method that needs none, such as rtn, nf4 or fp8"
            )
        length = min(LENGTH, self.config.max_position_embeddings)
        return calibration_text(original, AutoTokenizer.from_pretrained(self.folder), wanted.calibration_rows, length).ids


def choose_attention(
    name: str, config: ModelConfig, dtype: torch.dtype, device: torch.device, kv_cache_dtype: str = "auto"
) -> AttentionBackend:
    """auto: paged wherever it can run. Raises `OptionsError` where it is asked for and cannot."""
    if name != "gather" and device.type == "cpu" and dtype == PagedAttention.DTYPE and kv_cache_dtype == "auto":
        return PagedAttention(config, dtype, device)
    if name != "gather" and device.type == "cuda" and kv_cache_dtype == "auto" and has_triton():
        return TritonAttention(config, dtype, device)
    if name == "paged" and kv_cache_dtype != "auto":
        raise OptionsError(f"--attention-backend paged: no kernel reads a KV cache in {kv_cache_dtype} where it is; use auto or gather")
    if name == "paged":
        remedy = "; install Triton, which CUDA builds of torch for Linux bring along" if device.type == "cuda" else ""
        raise OptionsError(f"--attention-backend paged: no kernel for {dtype} on {device.type}{remedy}")
    return GatherAttention(config, dtype, device)


def use_packed(name: str, dtype: torch.dtype, device: torch.device) -> bool:
    """auto: packed wherever it can be. Raises `OptionsError` where it is asked for and cannot."""
    possible = can_pack(dtype, device)
    if name == "packed" and not possible:
        raise OptionsError(f"--linear-backend packed: no kernel for {dtype} on {device.type}; use plain")
    return possible and name != "plain"

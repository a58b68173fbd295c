"""From a folder and options to a runner: device, dtype, weights, KV pool."""
from __future__ import annotations

import logging
from pathlib import Path

import torch

from labkit.glassbox.attention import AttentionBackend
from labkit.glassbox.gather_attention import GatherAttention
from labkit.glassbox.kv_cache import KVCache
from labkit.glassbox.loader import load_model
from labkit.glassbox.model_config import ModelConfig
from labkit.glassbox.options import EngineOptions, OptionsError
from labkit.glassbox.packed_linear import can_pack, pack_linears
from labkit.glassbox.runner import ModelRunner
from labkit.glassbox.sampler import Sampler
from labkit.glassbox.paged_attention import PagedAttention

log = logging.getLogger("labkit.glassbox")


def build_runner(folder: Path, options: EngineOptions) -> tuple[ModelRunner, ModelConfig]:
    """Load the model and allocate the KV pool. Resolves `options` against the model's context."""
    config = ModelConfig.from_folder(folder)
    options.resolve(config.max_position_embeddings)
    device = choose_device(options.device)
    dtype = choose_dtype(options.dtype, config, device)
    log.info("loading weights from %s (%s, %s)", folder, str(dtype).removeprefix("torch."), device)
    model = load_model(folder, config, options.max_model_len, dtype, device, options.load_format == "dummy", options.seed)
    if use_packed(options.linear_backend, dtype, device):
        pack_linears(model)
    attention = choose_attention(options.attention_backend, config, dtype, device)
    log.info("allocating the KV pool: %d blocks of %d tokens", options.num_gpu_blocks_override, options.block_size)
    kv_cache = KVCache(config, options.num_gpu_blocks_override, options.block_size, dtype, device)
    return ModelRunner(model, kv_cache, attention, Sampler(config.eos_token_ids), device), config


def choose_device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise OptionsError("--device cuda: torch finds no CUDA device here; use --device cpu, or install a CUDA build of torch")
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise OptionsError(f"--device {name!r}: {error}") from error


def choose_dtype(name: str, config: ModelConfig, device: torch.device) -> torch.dtype:
    """float32 on a CPU unless asked otherwise: bfloat16 is slow on many and unproven on some."""
    if name == "auto":
        name = "float32" if device.type == "cpu" else config.torch_dtype
    return getattr(torch, name)


def choose_attention(name: str, config: ModelConfig, dtype: torch.dtype, device: torch.device) -> AttentionBackend:
    """auto: paged wherever it can run. Raises `OptionsError` where it is asked for and cannot."""
    if name != "gather" and device.type == "cpu" and dtype in PagedAttention.DTYPES:
        return PagedAttention(config, dtype, device)
    if name == "paged":
        raise OptionsError(f"--attention-backend paged: no kernel for {dtype} on {device.type}")
    return GatherAttention(config, dtype, device)


def use_packed(name: str, dtype: torch.dtype, device: torch.device) -> bool:
    """auto: packed wherever it can be. Raises `OptionsError` where it is asked for and cannot."""
    possible = can_pack(dtype, device)
    if name == "packed" and not possible:
        raise OptionsError(f"--linear-backend packed: this torch has no oneDNN kernels for {dtype} on {device.type}; use plain")
    return possible and name != "plain"

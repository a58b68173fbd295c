"""From a folder and options to a runner: device, dtype, weights, KV pool."""
from __future__ import annotations

import logging
from pathlib import Path

import torch

from labkit.glassbox.kv_cache import KVCache
from labkit.glassbox.loader import load_model
from labkit.glassbox.model_config import ModelConfig
from labkit.glassbox.options import EngineOptions, OptionsError
from labkit.glassbox.runner import ModelRunner
from labkit.glassbox.sampler import Sampler

log = logging.getLogger("labkit.glassbox")


def build_runner(folder: Path, options: EngineOptions) -> tuple[ModelRunner, ModelConfig]:
    """Load the model and allocate the KV pool. Resolves `options` against the model's context."""
    config = ModelConfig.from_folder(folder)
    options.resolve(config.max_position_embeddings)
    device = choose_device(options.device)
    dtype = choose_dtype(options.dtype, config, device)
    log.info("loading weights from %s (%s, %s)", folder, str(dtype).removeprefix("torch."), device)
    model = load_model(folder, config, options.max_model_len, dtype, device, options.load_format == "dummy", options.seed)
    log.info("allocating the KV pool: %d blocks of %d tokens", options.num_gpu_blocks_override, options.block_size)
    kv_cache = KVCache(config, options.num_gpu_blocks_override, options.block_size, dtype, device)
    return ModelRunner(model, kv_cache, Sampler(config.eos_token_ids), device), config


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

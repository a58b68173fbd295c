"""From a folder and options to a runner: device, dtype, weights, KV pool."""
from __future__ import annotations

import logging
from pathlib import Path

import torch

from labkit.glassbox.model_config import ModelConfig
from labkit.glassbox.options import EngineOptions, OptionsError
from labkit.glassbox.runner import ModelRunner
from labkit.glassbox.sampler import Sampler
from labkit.glassbox.workshop import Workshop

log = logging.getLogger("labkit.glassbox")


def build_runner(folder: Path, options: EngineOptions) -> tuple[ModelRunner, ModelConfig]:
    """Load the model, quantize it where that is asked for, and allocate the KV pool. Resolves `options` against the model's context."""
    config = ModelConfig.from_folder(folder)
    options.resolve(config.max_position_embeddings)
    device = choose_device(options.device)
    dtype = choose_dtype(options.dtype, config, device)
    log.info("loading weights from %s (%s, %s)", folder, str(dtype).removeprefix("torch."), device)
    workshop = Workshop(folder, config, options, dtype, device)
    workshop.parts = parts = workshop.prepare(options.wanted_quantization())
    kv_cache = workshop.pool(parts, options.num_gpu_blocks_override)
    whole = workshop.whole_step(parts, kv_cache)
    return ModelRunner(parts.model, kv_cache, parts.attention, Sampler(config.eos_token_ids), device, workshop, whole), config


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
    """float32 on a CPU unless asked otherwise: bfloat16 is slow on many and unproven on some. GPUs before Ampere only emulate it."""
    if name == "auto":
        name = "float32" if device.type == "cpu" else config.torch_dtype
        if name == "bfloat16" and device.type == "cuda" and torch.cuda.get_device_capability(device)[0] < 8:
            name = "float16"
    return getattr(torch, name)

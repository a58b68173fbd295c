"""Weights from a folder of safetensors into a `CausalLM`, one tensor at a time."""
from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

import torch
from torch import nn

from labkit.glassbox.model import CausalLM
from labkit.glassbox.model_config import ModelConfig, read_json
from labkit.models.registry import ModelError

# Our fused parameter <- the checkpoint's parts, stacked in this order.
FUSED = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}


def load_model(
    folder: Path, config: ModelConfig, max_model_len: int, dtype: torch.dtype, device: torch.device, dummy: bool = False, seed: int = 0
) -> CausalLM:
    """The model with its weights (`dummy`: random ones of the right shape). Raises `ModelError` for what is missing or misshapen."""
    model = CausalLM(config, max_model_len, dtype, device)
    if dummy:
        _fill(model, seed)
    else:
        _load(model, folder, config)
    return model.eval().requires_grad_(False)


@torch.no_grad()
def _fill(model: nn.Module, seed: int) -> None:
    generator = torch.Generator(model.lm_head.weight.device).manual_seed(seed)
    for name, parameter in model.named_parameters():
        if "norm" in name:
            parameter.fill_(1.0)
        else:
            parameter.normal_(0.0, 0.02, generator=generator)


@torch.no_grad()
def _load(model: CausalLM, folder: Path, config: ModelConfig) -> None:
    missing = dict(_targets(model, config))
    for name, tensor in _read(folder, missing.keys()):
        target = missing.pop(name)
        if target.shape != tensor.shape:
            raise ModelError(f"{folder}: {name} has shape {list(tensor.shape)}, config.json says {list(target.shape)}")
        target.copy_(tensor)
    if missing:
        some = ", ".join(sorted(missing)[:3])
        raise ModelError(f"{folder}: {len(missing)} weights of this shape are not in its safetensors ({some}, ...): copy the model again")


def _targets(model: CausalLM, config: ModelConfig) -> Iterator[tuple[str, torch.Tensor]]:
    """Each tensor name of the checkpoint with the (part of a) parameter it belongs to."""
    heads, kv_heads = config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim
    sizes = {"qkv_proj": (heads, kv_heads, kv_heads), "gate_up_proj": (config.intermediate_size,) * 2}
    for name, parameter in model.named_parameters():
        if name == "lm_head.weight":
            yield name, parameter
            continue
        fused = next((part for part in name.split(".") if part in FUSED), None)
        if fused is None:
            yield f"model.{name}", parameter
            continue
        for part, rows in zip(FUSED[fused], parameter.split(sizes[fused]), strict=True):
            yield f"model.{name.replace(fused, part)}", rows


def _read(folder: Path, wanted: Collection[str]) -> Iterator[tuple[str, torch.Tensor]]:
    """Tensors of `wanted` names, from one file or from the shards that an index lists."""
    from safetensors import SafetensorError, safe_open

    index = folder / "model.safetensors.index.json"
    if index.exists():
        files = sorted(set(read_json(index, "").get("weight_map", {}).values()))
    else:
        files = sorted(path.name for path in folder.glob("*.safetensors"))
    if not files:
        raise ModelError(f"{folder} holds no *.safetensors: save the model in that format, or use --load-format dummy for random weights")
    for file in files:
        try:
            with safe_open(folder / file, framework="pt") as tensors:
                for name in tensors.keys():
                    if name in wanted:
                        yield name, tensors.get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{folder / file} cannot be read: {error}; copy the model again") from error

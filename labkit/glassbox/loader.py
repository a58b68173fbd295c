"""Weights from a folder of safetensors into a `CausalLM`: one tensor at a time, those of a quantized checkpoint as they are packed."""
from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path

import torch
from torch import nn

from labkit.glassbox.layers import Linear
from labkit.glassbox.model import CausalLM
from labkit.glassbox.model_config import ModelConfig, read_json
from labkit.glassbox.quantized_linear import keep_packed
from labkit.models.registry import ModelError
from labkit.quantization.packed import Packed

# Our fused parameter <- the checkpoint's parts, stacked in this order.
FUSED = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}


def load_model(
    folder: Path, config: ModelConfig, max_model_len: int, dtype: torch.dtype, device: torch.device, dummy: bool = False, seed: int = 0
) -> CausalLM:
    """The model with its weights (`dummy`: random ones of the right shape). Raises `ModelError` for what is missing or misshapen, and
    `QuantizationError` for a quantized checkpoint of a kind that the lab does not compute."""
    model = CausalLM(config, max_model_len, dtype, device)
    if dummy:
        _fill(model, seed)
    elif config.quant_method is not None:
        from labkit.quantization.export.load import load_tensors

        packed, others = load_tensors(folder)
        put_weights(model, others.items(), packed, folder)
    else:
        put_weights(model, _read(folder, dict(targets(model)).keys()), {}, folder)
    return model.eval().requires_grad_(False)


@torch.no_grad()
def put_weights(model: CausalLM, tensors: Iterable[tuple[str, torch.Tensor]], packed: Mapping[str, Packed], where: Path) -> None:
    """Fill a model: `tensors` by the checkpoint's names, and `packed` ones in the place of linear layers, by the layers' names.

    Names that the model has no use for are left out. Raises `ModelError`, with `where` in it, for what is missing or misshapen.
    """
    missing = dict(targets(model))
    for name, tensor in chain(((f"{name}.weight", part) for name, part in packed.items()), tensors):
        if name not in missing:
            continue
        target = missing.pop(name)
        if tuple(target.shape) != tuple(tensor.shape):
            raise ModelError(f"{where}: {name} has shape {list(tensor.shape)}, config.json says {list(target.shape)}")
        if isinstance(tensor, torch.Tensor):
            target.copy_(tensor)
    if missing:
        some = ", ".join(sorted(missing)[:3])
        raise ModelError(f"{where}: {len(missing)} weights of this shape are not in its safetensors ({some}, ...): copy the model again")
    keep_packed(model, _fused(model, packed, where))


@torch.no_grad()
def _fill(model: nn.Module, seed: int) -> None:
    generator = torch.Generator(model.lm_head.weight.device).manual_seed(seed)
    for name, parameter in model.named_parameters():
        if "norm" in name:
            parameter.fill_(1.0)
        else:
            parameter.normal_(0.0, 0.02, generator=generator)


def targets(model: CausalLM) -> Iterator[tuple[str, torch.Tensor]]:
    """Each tensor name of the checkpoint with the (part of a) parameter of a model without packed weights that it belongs to."""
    config = model.config
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


def _fused(model: CausalLM, packed: Mapping[str, Packed], where: Path) -> dict[str, list[Packed]]:
    """The packed parts of each of our linear layers, by its path."""
    found = {}
    for path, module in model.named_modules():
        if not isinstance(module, Linear):
            continue
        own = path.rpartition(".")[2]
        names = [f"model.{path.replace(own, part)}" for part in FUSED.get(own, (own,))] if path != "lm_head" else [path]
        parts = [packed[name].to(module.weight.device) for name in names if name in packed]
        if 0 < len(parts) < len(names):
            raise ModelError(f"{where}: of {', '.join(names)} only some are quantized, and they are one layer here: quantize all or none")
        if parts:
            found[path] = parts
    return found


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

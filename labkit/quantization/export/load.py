"""Quantized checkpoints read back: the lab's own, and those of others in the same formats, as packed layers that the lab computes."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.quantization.errors import QuantizationError, check_choice
from labkit.quantization.export.checkpoint import FORMATS, original

if TYPE_CHECKING:
    from torch import Tensor, nn

    from labkit.quantization.packed import Packed


def load_tensors(folder: Path) -> tuple[dict[str, Packed], dict[str, Tensor]]:
    """The packed linear layers of a checkpoint by name, and all its other tensors. Raises QuantizationError for formats the lab does not
    know."""
    settings = json.loads((folder / "config.json").read_text()).get("quantization_config")
    if not settings:
        raise QuantizationError(f"{folder} is not quantized: its config.json has no quantization_config. Load it as any other model")
    check_choice("checkpoint format", settings.get("quant_method"), FORMATS)
    kind = FORMATS[settings["quant_method"]]
    layers: dict[str, dict[str, Tensor]] = defaultdict(dict)
    others: dict[str, Tensor] = {}
    for name, tensor in original(folder):
        layer, _, suffix = name.rpartition(".")
        if suffix in kind.SUFFIXES:
            layers[layer][suffix] = tensor
        else:
            others[name] = tensor
    for layer in [layer for layer, found in layers.items() if set(found) == {"weight"}]:  # norms and embeddings: no scale, so not quantized
        others[f"{layer}.weight"] = layers.pop(layer)["weight"]
    return {layer: kind.read(found, settings) for layer, found in layers.items()}, others


def load_model(folder: Path, **words: Any) -> nn.Module:
    """transformers' model of a quantized checkpoint, in float32, with packed linear layers. words: for
    `AutoModelForCausalLM.from_config`."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from labkit.quantization.packed import PackedLinear

    linears, others = load_tensors(folder)
    config = AutoConfig.from_pretrained(folder)
    del config.quantization_config
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, **words).eval()
    for name, packed in linears.items():
        parent, _, leaf = name.rpartition(".")
        bias = others.pop(f"{name}.bias", None)
        setattr(model.get_submodule(parent), leaf, PackedLinear(packed, None if bias is None else bias.float()))
    left = model.load_state_dict({name: tensor.float() for name, tensor in others.items()}, strict=False)
    elsewhere = {f"{name}.bias" for name in linears} | ({"lm_head.weight"} if config.tie_word_embeddings else set())
    missing = [name for name in left.missing_keys if name not in elsewhere]
    if missing or left.unexpected_keys:
        raise QuantizationError(f"{folder} does not fit its config.json ({(missing + left.unexpected_keys)[0]}): copy or export it again")
    return model

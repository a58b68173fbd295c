"""A folder with a quantized checkpoint: the packed tensors of a format, everything else of the original in float16, its tokenizer,
config.json."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.quantization.errors import QuantizationError, check_choice
from labkit.quantization.export import awq, compressed_tensors, gptq

if TYPE_CHECKING:
    from torch import Tensor

    from labkit.quantization.model import QuantizedModel

FORMATS = {"gptq": gptq, "awq": awq, "compressed-tensors": compressed_tensors}
"""Each has `tensors(packed) -> {suffix: tensor}` and `config(packed) -> quantization_config`; both raise QuantizationError for what it
cannot hold."""
USUAL = {"rtn": "compressed-tensors", "gptq": "gptq", "awq": "awq", "smoothquant": "compressed-tensors"}
"""The format that a method's checkpoints usually have."""
EXTRAS = ("tokenizer*", "special_tokens_map.json", "generation_config.json", "vocab.*", "merges.txt", "*.jinja", "added_tokens.json")


@dataclass(slots=True)
class Export:
    """What was written."""

    folder: Path
    format: str
    nbytes: int  # of the weights' file


def export(source: Path, result: QuantizedModel, out: Path, format: str | None = None) -> Export:
    """Write what `quantize_model` made of the model in folder `source` into the folder `out`, in `format` (None: the method's usual one).

    Raises QuantizationError where no format holds it, a server could not load it, or `out` holds a model already.
    """
    import torch
    from safetensors.torch import save_file

    chosen = format or usual(result.method)
    check_choice("checkpoint format", chosen, FORMATS)
    check_folder(out)
    kind = FORMATS[chosen]
    settings = kind.config(next(iter(result.linears.values())))
    tensors: dict[str, Tensor] = {}
    for name, packed in result.linears.items():
        if packed.shape[0] % 32 or packed.shape[1] % 32:
            size = f"{packed.shape[0]} x {packed.shape[1]}"
            raise QuantizationError(f"{name} is {size}: servers' kernels take multiples of 32. Use another model")
        tensors |= {f"{name}.{suffix}": tensor.contiguous() for suffix, tensor in kind.tensors(packed).items()}
    for name, tensor in original(source):
        if name.removesuffix(".weight") in result.linears:
            continue
        half = result.changed.get(name, tensor).half()
        if not half.isfinite().all():
            raise QuantizationError(f"{name} holds values beyond float16's 65504, in which checkpoints for 4-bit kernels are served")
        tensors[name] = half
    out.mkdir(parents=True, exist_ok=True)
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((source / "config.json").read_text())
    config |= {"torch_dtype": str(torch.float16).removeprefix("torch."), "quantization_config": settings}
    config.pop("dtype", None)
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    for pattern in EXTRAS:
        for file in source.glob(pattern):
            shutil.copy(file, out)
    return Export(out, chosen, (out / "model.safetensors").stat().st_size)


def usual(method: str) -> str:
    """The format of a method's checkpoints. Raises QuantizationError where servers have none, or dropped it."""
    if method not in USUAL:
        raise QuantizationError(
            f"{method} has no checkpoint format that vLLM's core loads today: export {', '.join(USUAL)}. (vLLM dropped SqueezeLLM in 2024 "
            f"and moved bitsandbytes, with NF4 and LLM.int8(), out in 2026; FP8 it makes by itself while loading an original checkpoint.)"
        )
    return USUAL[method]


def check_folder(out: Path) -> None:
    """Raises QuantizationError where `out` is no folder, or holds a model."""
    if out.exists() and not out.is_dir():
        raise QuantizationError(f"{out} is a file: give a folder for the checkpoint")
    if any((out / name).exists() for name in ("config.json", "model.safetensors")):
        raise QuantizationError(f"{out} holds a model already: give another folder, or remove it first")


def original(source: Path) -> Any:
    """Names and tensors of a checkpoint's safetensors, one at a time."""
    from safetensors import safe_open

    files = sorted(source.glob("*.safetensors"))
    if not files:
        raise QuantizationError(f"{source} holds no *.safetensors: save the model in that format first")
    for file in files:
        with safe_open(file, framework="pt") as content:
            for name in content.keys():
                yield name, content.get_tensor(name)

"""Runs in the environment `references`: quantizes what lies in FOLDER by public implementations, and writes what they give beside it.

FOLDER/tensors.safetensors: weights by name, `x` (inputs), `second_moment`; FOLDER/model-N: transformers models, with
FOLDER/ids.safetensors to calibrate on. FOLDER/export-*: checkpoints. Nothing in this program is the lab's own.
"""

from __future__ import annotations

import sys
from pathlib import Path

import bitsandbytes
import torch
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from compressed_tensors.quantization.utils import calculate_qparams
from llmcompressor import oneshot
from llmcompressor.modifiers.gptq import GPTQModifier
from llmcompressor.modifiers.gptq.gptq_quantize import quantize_weight
from llmcompressor.modifiers.quantization import QuantizationModifier
from llmcompressor.modifiers.transform.awq import AWQModifier
from safetensors.torch import load_file, save_file
from torchao.quantization import Int8WeightOnlyConfig, quantize_
from transformers import AutoModelForCausalLM

GROUP = 32


def nf4(weight: torch.Tensor, double: bool) -> dict[str, torch.Tensor]:
    codes, state = bitsandbytes.functional.quantize_4bit(weight, quant_type="nf4", compress_statistics=double, blocksize=64)
    found = {"codes": codes.flatten(), "absmax": state.absmax, "values": bitsandbytes.functional.dequantize_4bit(codes, state)}
    return found | ({"offset": state.offset, "absmax_scales": state.state2.absmax} if double else {})


def llm_int8(weight: torch.Tensor, x: torch.Tensor) -> dict[str, torch.Tensor]:
    ops = torch.ops.bitsandbytes
    codes, absmax, _ = ops.int8_vectorwise_quant(weight.clone())
    rows, peaks, columns = ops.int8_vectorwise_quant(x.clone(), 6.0)
    product, _ = ops.int8_mixed_scaled_mm(x, rows, codes, peaks, absmax, columns)
    return {"codes": codes, "absmax": absmax, "columns": columns, "product": product}


def int8(weight: torch.Tensor) -> dict[str, torch.Tensor]:
    layer = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    layer.weight.data = weight.clone()
    quantize_(layer, Int8WeightOnlyConfig())
    return {"codes": layer.weight.qdata, "scales": layer.weight.scale, "values": layer.weight.dequantize()}


def gptq(weight: torch.Tensor, second_moment: torch.Tensor, bits: int, symmetric: bool, order: bool) -> dict[str, torch.Tensor]:
    grain = {"strategy": "group", "group_size": GROUP, "actorder": "weight" if order else None}
    settings = QuantizationArgs(num_bits=bits, type="int", symmetric=symmetric, **grain)
    groups = weight.unflatten(1, (-1, GROUP))
    scales, zeros = calculate_qparams(groups.amin(-1), groups.amax(-1), settings)
    values, _, fell_back = quantize_weight(
        weight[None].clone(), second_moment[None].clone(), scales[None], zeros[None], None, settings, blocksize=128, percdamp=0.01
    )
    assert not fell_back.any()
    return {"values": values[0]}


def model(folder: Path, ids: torch.Tensor, recipe: list) -> dict[str, torch.Tensor]:
    """Logits of the model on its own calibration text, quantized by the recipe."""
    found = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    batches = torch.utils.data.DataLoader([{"input_ids": row} for row in ids], batch_size=4)
    oneshot(model=found, dataset=batches, recipe=recipe, num_calibration_samples=len(ids), max_seq_length=ids.shape[1])
    with torch.no_grad():
        return {"logits": found(ids).logits}


def scheme(symmetric: bool) -> dict[str, QuantizationScheme]:
    weights = QuantizationArgs(num_bits=3, type="int", symmetric=symmetric, strategy="group", group_size=GROUP)
    return {"group_0": QuantizationScheme(targets=["Linear"], weights=weights)}


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    torch.Tensor.pin_memory = lambda tensor, *_: tensor  # llm-compressor's AWQ asks for it, and there is no accelerator to copy to
    tensors = load_file(folder / "tensors.safetensors")
    x, second_moment = tensors.pop("x"), tensors.pop("second_moment")
    found: dict[str, dict[str, torch.Tensor]] = {}
    for name, weight in tensors.items():
        found |= {f"nf4/{name}": nf4(weight, False), f"nf4 double/{name}": nf4(weight, True), f"int8/{name}": int8(weight)}
    weight = tensors["layer"]
    found["llm-int8"] = llm_int8(weight, x)
    found["llm-int8 tame"] = llm_int8(weight, x.clamp(-5, 5))
    for bits in (3, 4):
        for symmetric in (True, False):
            for order in (True, False):
                found[f"gptq/{bits}/{symmetric}/{order}"] = gptq(weight, second_moment, bits, symmetric, order)
    ids = load_file(folder / "ids.safetensors")["ids"]
    for path in sorted(folder.glob("model-*")):
        found[f"gptq/{path.name}"] = model(path, ids, [GPTQModifier(config_groups=scheme(True), ignore=["lm_head"])])
        recipe = [AWQModifier(), QuantizationModifier(config_groups=scheme(False), ignore=["lm_head"])]
        found[f"awq/{path.name}"] = model(path, ids, recipe)
    for path in sorted(folder.glob("export-*")):  # written by the lab, loaded by transformers with compressed-tensors
        with torch.no_grad():
            found[path.name] = {"logits": AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)(ids).logits}
    flat = {f"{name}/{part}": tensor.detach().clone().contiguous() for name, parts in found.items() for part, tensor in parts.items()}
    save_file(flat, folder / "references.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

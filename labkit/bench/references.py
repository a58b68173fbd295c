"""`labkit bench references`: the lab's methods beside bitsandbytes, torchao and llm-compressor, on the same tensors and the same models.

The public implementations run in an environment of their own (`labkit install references`): `reference_program`.
"""
from __future__ import annotations

import copy
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from labkit.bench.examples import example, llama
from labkit.bench.report import parser, write
from labkit.quantization import fp8, gptq, llm_int8, nf4, round_to_nearest
from labkit.quantization.calibration import forward
from labkit.quantization.export.checkpoint import export
from labkit.quantization.export.load import load_model
from labkit.quantization.model import quantize_model

SEEDS = range(4)
EXPORTS = {"rtn": {}, "gptq-8": {"bits": 8}, "awq": {}, "smoothquant": {}}
MODEL_METHODS = ("gptq", "awq")
GRIDS = tuple((bits, symmetric, order) for bits in (3, 4) for symmetric in (True, False) for order in (True, False))
References = dict[str, Tensor]


def main(argv: list[str]) -> int:
    """NF4, int8, LLM.int8(), GPTQ, AWQ and exported checkpoints beside public implementations of them."""
    parse = parser("references", main.__doc__)
    options = parse.parse_args(argv)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="labkit-references-") as place:
        result = compare(Path(place))
    if not options.json:
        for name, found in result.items():
            print(f"{name}: {found}")
    write("quantization-references", ["references", *argv], options, result)
    return 0


def compare(folder: Path) -> dict[str, Any]:
    """Every comparison, in a folder that is empty."""
    found = references(folder)
    return {
        "nf4": {name + ", double" * double: compare_nf4(found, name, double) for name in weights() for double in (False, True)},
        "fp8": {format: compare_fp8(format) for format in fp8.FORMATS},
        "int8": {name: compare_int8(found, name) for name in weights()},
        "llm_int8": compare_llm_int8(found),
        "gptq_layer": {f"{bits} bits, {'symmetric' if symmetric else 'asymmetric'}, {'act order' if order else 'in order'}":
                       compare_gptq(found, bits, symmetric, order) for bits, symmetric, order in GRIDS},
        "models": {name: compare_models(found, name) for name in MODEL_METHODS},
        "exports": {name: compare_export(found, folder, name) for name in EXPORTS},
    }


def weights() -> References:
    """Weights of several shapes and sizes."""
    draw = torch.Generator().manual_seed(11)
    uneven = torch.randn(512, 256, generator=draw) * (torch.rand(512, 1, generator=draw) ** 4 + 1e-3)
    return {
        "layer": example().weight,
        "tiny": torch.randn(64, 64, generator=draw) * 1e-3,
        "large": torch.randn(256, 704, generator=draw) * 3,
        "uneven": uneven,
    }


def calibration_ids() -> Tensor:
    """Token ids [rows, length] for the models of `examples.llama`."""
    return torch.randint(3, 384, (96, 32), generator=torch.Generator().manual_seed(5))


def references(folder: Path) -> References:
    """What the public implementations make of `weights` and of small models, by name; checkpoints of the lab's are left in `folder`."""
    from safetensors.torch import load_file, save_file

    from labkit.environments.install import install
    from labkit.models import folder as model_folder

    layer = example()
    save_file(weights() | {"x": layer.x, "second_moment": layer.second_moment}, folder / "tensors.safetensors")
    save_file({"ids": calibration_ids()}, folder / "ids.safetensors")
    for seed in SEEDS:
        llama(seed=seed).save_pretrained(folder / f"model-{seed}")
        for file in ("tokenizer.json", "tokenizer_config.json"):  # llm-compressor wants one in the folder, whatever it calibrates on
            shutil.copy(model_folder("tiny") / file, folder / f"model-{seed}")
    for name, options in EXPORTS.items():
        words = {} if name == "smoothquant" else {"group_size": 32}
        result = quantize_model(llama(), name.split("-")[0], ids=calibration_ids(), **words, **options)
        export(folder / "model-0", result, folder / f"export-{name}", "compressed-tensors")
    python = install("references").python
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    program = Path(__file__).with_name("reference_program.py")
    done = subprocess.run([python, "-P", program, folder], capture_output=True, text=True, env=environ, cwd=folder)
    if done.returncode:
        raise RuntimeError(f"the public implementations failed: {done.stderr[-3000:]}")
    return load_file(folder / "references.safetensors")


def compare_nf4(found: References, name: str, double: bool) -> dict[str, bool]:
    """With bitsandbytes: which parts are the same, bit for bit."""
    key = f"nf4{' double' if double else ''}/{name}"
    packed = nf4.quantize(weights()[name], 64, double)
    parts = {"codes": packed.codes, "absmax": packed.absmax, "values": packed.dequantize()}
    if double:
        parts |= {"absmax_scales": packed.absmax_scales, "offset": packed.offset}
    return {part: torch.equal(ours, found[f"{key}/{part}"]) for part, ours in parts.items()}


def compare_fp8(format: str) -> dict[str, int]:
    """With torch's casts: how many of the values, in the range of the format, get other bits."""
    dtype = {"e4m3": torch.float8_e4m3fn, "e5m2": torch.float8_e5m2}[format]
    packed = {name: fp8.quantize(weight, format) for name, weight in weights().items()}
    scaled = torch.cat([(weight / packed[name].scales).flatten() for name, weight in weights().items()])
    codes = torch.cat([one.values.flatten() for one in packed.values()])
    return {"weights": len(codes), "differ": int((codes != scaled.to(dtype).view(torch.uint8)).count_nonzero())}


def compare_int8(found: References, name: str) -> dict[str, bool | int]:
    """With torchao: whether scales are the same, and how many codes are not, by at most how much; `ties` are those that lie half way.

    torchao multiplies by the inverse of the scale, which can tip a tie over.
    """
    packed = round_to_nearest.quantize(weights()[name], 8, "channel", scale_dtype=torch.float32)
    differ = packed.integers().int() - 128 - found[f"int8/{name}/codes"].int()
    steps = weights()[name] / packed.scales
    tie = (steps - steps.floor() - 0.5).abs() < 1e-4
    values = (packed.dequantize() / packed.scales).round().int() - differ
    return {
        "scales": torch.equal(packed.scales, found[f"int8/{name}/scales"].view(packed.scales.shape)),
        "values": torch.equal(values, found[f"int8/{name}/codes"].int()),
        "weights": differ.numel(),
        "differ": int(differ.count_nonzero()),
        "most": int(differ.abs().max()),
        "ties": int(differ[tie].count_nonzero()),
    }


def compare_llm_int8(found: References) -> dict[str, Any]:
    """With bitsandbytes: codes, and products with inputs with and without outliers.

    bitsandbytes lets the small values in outlier columns stretch the grid; the paper does not.
    """
    layer = example()
    packed = llm_int8.quantize(layer.weight)
    tame, theirs = packed.linear(layer.x.clamp(-5, 5)), found["llm-int8 tame/product"]
    exact = layer.x @ layer.weight.T
    return {
        "codes": torch.equal(packed.codes, found["llm-int8/codes"]),
        "absmax": torch.equal(packed.absmax.flatten(), found["llm-int8/absmax"]),
        "outlier_columns": len(found["llm-int8/columns"]),
        "tame_product_off": ((tame - theirs).abs() / (theirs.abs() + 0.1)).max().item(),
        "error": relative(packed.linear(layer.x), exact),
        "their_error": relative(found["llm-int8/product"], exact),
    }


def compare_gptq(found: References, bits: int, symmetric: bool, order: bool) -> dict[str, float]:
    """With llm-compressor on the same second moment: the loss E H E^T of both, and that of plain rounding.

    llm-compressor's scales stay in float32 here, the lab's are float16, as in a checkpoint.
    """
    layer = example()

    def loss(values: Tensor) -> float:
        error = values - layer.weight
        return ((error @ layer.second_moment) * error).sum().item()

    ours = gptq.quantize(layer.weight, layer.second_moment, bits, group_size=32, symmetric=symmetric, act_order=order)
    plain = round_to_nearest.quantize(layer.weight, bits, group_size=32, symmetric=symmetric)
    theirs = found[f"gptq/{bits}/{symmetric}/{order}/values"]
    return {"ours": loss(ours.dequantize()), "theirs": loss(theirs), "rtn": loss(plain.dequantize())}


def compare_models(found: References, name: str) -> dict[str, float]:
    """With llm-compressor, calibrated on the same text: relative errors of the logits at 3 bits, and those of plain rounding.

    Means over models: at 3 bits a rounding that falls the other way in the first layer decides which of two equal methods does better
    on one of them.
    """
    ids = calibration_ids()
    lost = {"ours": 0.0, "theirs": 0.0, "rtn": 0.0}
    for seed in SEEDS:
        original = llama(seed=seed)
        with torch.no_grad():
            wanted = forward(original, ids)
            for side, method in (("ours", name), ("rtn", "rtn")):
                model = copy.deepcopy(original)
                quantize_model(model, method, 3, 32, ids, symmetric=name == "gptq")
                lost[side] += relative(forward(model, ids), wanted)
            lost["theirs"] += relative(found[f"{name}/model-{seed}/logits"], wanted)
    return {side: total / len(SEEDS) for side, total in lost.items()}


def compare_export(found: References, folder: Path, name: str) -> dict[str, float]:
    """With transformers and compressed-tensors: how far its logits of a checkpoint are from the lab's.

    For W8A8 it rounds inputs in steps of absmax / 127.5, vLLM and the lab of absmax / 127.
    """
    with torch.no_grad():
        logits = forward(load_model(folder / f"export-{name}"), calibration_ids())
    theirs = found[f"export-{name}/logits"]
    return {"relative": relative(theirs, logits), "most": ((theirs - logits).abs() / (logits.abs() + 1)).max().item()}


def relative(found: Tensor, wanted: Tensor) -> float:
    """The norm of the difference over that of what is wanted."""
    return ((found - wanted).norm() / wanted.norm()).item()

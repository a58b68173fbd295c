"""`labkit quantize`: a model to fewer bits, as a checkpoint that servers load."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from labkit.models.registry import ModelError, folder
from labkit.quantization.errors import QuantizationError
from labkit.quantization.methods import METHODS, method


def main(argv: list[str]) -> int:
    """Quantize a model and write the checkpoint. 0, or 1 with a message that names the remedy."""
    lines = [f"  {each.name:<12}{each.about}" for each in METHODS.values()]
    parser = argparse.ArgumentParser(
        prog="labkit quantize",
        description="Quantize a model, and write a checkpoint that vLLM, transformers and TGI load.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="\n".join(["methods:", *lines, "", "Servers load rtn, gptq, awq and smoothquant. The others run in the lab."]),
    )
    parser.add_argument("model", nargs="?", default="tiny", help="a shipped model's name, a folder, or a hub name (%(default)s)")
    parser.add_argument("--method", default="gptq", help="see below (%(default)s)")
    parser.add_argument("--bits", type=int, help="bits a weight (default: the method's own)")
    parser.add_argument("--group", type=int, help="weights that share a scale (default: 64, where the method has groups)")
    parser.add_argument("--out", type=Path, required=True, help="folder for the checkpoint")
    parser.add_argument("--format", help="gptq, awq or compressed-tensors (default: the method's usual one)")
    parser.add_argument("--rows", type=int, default=64, help="rows of calibration text, 256 tokens each (%(default)s)")
    parser.add_argument("--text", type=Path, help="a text file to calibrate on (default: the model's own text)")
    parser.add_argument("--seed", type=int, default=0, help="of the calibration text (%(default)s)")
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument("--json", action="store_true", help="end with one JSON object on stdout")
    options = parser.parse_args(argv)
    try:
        report = quantize(options)
    except (QuantizationError, ModelError, OSError) as error:
        if options.json:
            print(json.dumps({"error": str(error)}))
        else:
            print(f"labkit quantize: {error}", file=sys.stderr)
        return 1
    print(json.dumps(report) if options.json else sentence(report))
    return 0


def quantize(options: argparse.Namespace) -> dict:
    """Do what the command line asks; the report is plain JSON. What can be refused is refused before the model is loaded."""
    from labkit.quantization.export.checkpoint import FORMATS, check_folder, export, usual

    chosen = method(options.method)
    chosen.check(options.bits, options.group)
    form = options.format or usual(chosen.name)
    if form not in FORMATS:
        raise QuantizationError(f"there is no checkpoint format {form!r}: there are {', '.join(FORMATS)}")
    check_folder(options.out)
    path = folder(options.model)
    check_original(path)

    import torch
    from tqdm import tqdm
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from labkit.quantization.model import bytes_in_all, quantize_model
    from labkit.quantization.text import LENGTH, calibration_text

    if options.threads:
        torch.set_num_threads(options.threads)
    begin = time.monotonic()
    with tqdm(total=100, unit="%", bar_format="{desc:<40} {percentage:3.0f}% |{bar}| {elapsed}", disable=None, mininterval=0.2) as bar:

        def progress(what: str, share: float) -> None:
            bar.set_description_str(what, refresh=False)
            bar.update(round(100 * share) - bar.n)

        progress("loading the model", 0.0)
        model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
        before = bytes_in_all(model)
        ids = None
        source = "none"
        if chosen.calibrates:
            progress("calibration text", 0.02)
            text = calibration_text(model, AutoTokenizer.from_pretrained(path), options.rows, LENGTH, options.seed, options.text)
            ids, source = text.ids, text.source
        result = quantize_model(
            model, chosen.name, options.bits, options.group, ids, lambda what, share: progress(f"{chosen.name}: {what}", 0.05 + 0.9 * share)
        )
        progress("writing", 0.96)
        written = export(path, result, options.out, form)
        progress("done", 1.0)
    return {
        "model": options.model,
        "method": chosen.name,
        "options": result.options,
        "format": written.format,
        "out": str(options.out),
        "calibration": source,
        "seed": options.seed,
        "bits_per_weight": round(result.bits_per_weight, 4),
        "bytes_before": before,
        "bytes": bytes_in_all(model, result),
        "file_bytes": written.nbytes,
        "seconds": round(time.monotonic() - begin, 2),
    }


def check_original(path: Path) -> None:
    """Raises QuantizationError where the folder holds a quantized checkpoint, or no weights."""
    settings = json.loads((path / "config.json").read_text()).get("quantization_config")
    if settings:
        kind = settings.get("quant_method", "some method")
        raise QuantizationError(f"{path} is already quantized, by {kind}: give the original checkpoint, in float32, bfloat16 or float16")
    if not any(path.glob("*.safetensors")):
        raise QuantizationError(f"{path} holds no *.safetensors: give a folder with weights in that format")


def sentence(report: dict) -> str:
    """The report for people."""
    return (
        f"{report['out']}: {report['model']} by {report['method']}, {report['bits_per_weight']:.2f} bits a linear weight; "
        f"{report['bytes_before'] / 1e6:.1f} MB in 16 bits became {report['bytes'] / 1e6:.1f} MB. Serve it: "
        f"labkit serve vllm --model {report['out']} --dtype float16"
    )

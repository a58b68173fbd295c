"""`labkit bench quantization`: the shipped model by every method and number of bits; what each costs in quality, and what it saves."""
from __future__ import annotations

import copy
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from labkit.bench.report import parser, write
from labkit.models.registry import folder
from labkit.quantization.methods import GROUP_SIZE, METHODS

if TYPE_CHECKING:
    from labkit.models.measure import Ruler
    from labkit.quantization.measure import Sample

BITS = (8, 4, 3, 2)
KV_FORMATS = {"int8": "int8", "fp8": "e4m3"}
SPOKEN = 24  # tokens that are timed
ROWS = 64  # of calibration


@dataclass(slots=True)
class Task:
    """One row of the table. `method` is a name of METHODS, "float32" or "bfloat16" for the model as it is, or "kv-int8", "kv-fp8"."""

    method: str
    bits: int
    group_size: int | None = None
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """For people."""
        grain = ", ".join([*([f"groups of {self.group_size}"] if self.group_size else []), *map(str, self.options.values())])
        return f"{self.method} {self.bits}" + (f" ({grain})" if grain else "")


def main(argv: list[str]) -> int:
    """The shipped model by every method and number of bits: perplexity, recall, copying, divergence, bytes, speed."""
    parse = parser("quantization", main.__doc__)
    parse.add_argument("--cases", type=int, default=6, help="of recall and copying, for each distance and length (default: %(default)s)")
    parse.add_argument("--documents", type=int, default=80, help="for perplexity (default: %(default)s)")
    parse.add_argument("--paired", type=int, default=160, help="documents to pair GPTQ, AWQ and rounding on (default: %(default)s)")
    parse.add_argument("--methods", nargs="+", metavar="METHOD", help="only these (default: all)")
    options = parse.parse_args(argv)

    from labkit.quantization.measure import Sample

    sample = Sample(options.documents, options.documents // 2, options.cases, 16, 64, 1, (64, 256, 1024), (8,), (16, 64))
    rows = []
    chosen = [task for task in tasks() if not options.methods or task.method in options.methods]
    for number, row in enumerate(table(chosen, sample)):
        rows.append(row)
        print(f"{number + 1} of {len(chosen)}: {line(row)}", file=sys.stderr, flush=True)
    result = {"model": "tiny", "sample": asdict(sample), "calibration_rows": ROWS, "clock": "CPU time of the one thread that computes",
              "decoding": "transformers, one request, greedy; packed layers unpack all their weights at every step",
              "cpu_seconds": round(sum(row["cpu_seconds"] for row in rows), 1), "rows": rows, "against_rtn": against(rows)}
    if options.paired and not options.methods:
        result["paired"] = paired(options.paired)
    if not options.json:
        print("\n".join([heading(), *map(line, rows)]))
    write("quantization", ["quantization", *argv], options, result)
    return 0


def tasks() -> Iterator[Task]:
    """Baselines, then every method with the bits that it can do; the grids that other methods use also with plain rounding."""
    yield Task("float32", 32)
    yield Task("bfloat16", 16)
    for method in METHODS.values():
        group_size = GROUP_SIZE if method.takes_groups else None
        for bits in BITS if method.takes_bits else method.bits:
            yield Task(method.name, bits, group_size)
            if method.name == "rtn":
                yield Task(method.name, bits, group_size, {"symmetric": False})
                yield Task(method.name, bits, None, {"per": "channel"})
    for name in KV_FORMATS:
        yield Task(f"kv-{name}", 8)


def table(chosen: list[Task], sample: Sample) -> Iterator[dict[str, Any]]:
    """The rows, one after the other, all against the same original. Each is kept in the cache, so that a run that was stopped goes on."""
    import torch

    from labkit.models.measure import Ruler
    from labkit.quantization.cache import cached
    from labkit.quantization.text import LENGTH, calibration_text

    torch.set_num_threads(1)
    ruler = Ruler(folder("tiny"))
    original = ruler.model
    wanted = sample.reference(ruler)
    ids = calibration_text(original, ruler.tokenizer, ROWS, LENGTH).ids
    for task in chosen:
        ruler.model = copy.deepcopy(original)
        question = {"bench": "quantization", "task": asdict(task), "sample": asdict(sample), "rows": ROWS}
        yield cached(question, folder("tiny"), partial(measured, task, ruler, wanted, sample, ids))


def measured(task: Task, ruler: Ruler, wanted: Any, sample: Sample, ids: Any) -> dict[str, Any]:
    """One row; `ruler.model` becomes what the task asks for."""
    from labkit.quantization.measure import judge

    began = time.thread_time()
    size = become(task, ruler.model, ids)
    tokens_per_s = None if task.method.startswith("kv-") else speed(ruler)
    unpack(ruler.model)
    found = judge(ruler, wanted, sample)
    recall = {**found["recall_by_distance"], **{f"among {keys}": share for keys, share in found["recall_among_keys"].items()}}
    return {
        "method": task.method, "bits": task.bits, "group_size": task.group_size, "options": task.options, **size,
        "perplexity": found["perplexity"]["all"]["perplexity"], "kl": found["kl"], "same_top": found["same_top"],
        "recall": round(statistics.mean(recall.values()), 4), "recall_by": recall,
        "copy": round(statistics.mean(found["copy_by_words"].values()), 4), "copy_by_words": found["copy_by_words"],
        "first_difference": found["continuations"]["median_first"], "same_continuations": found["continuations"]["same"],
        "tokens_per_s": tokens_per_s, "cpu_seconds": round(time.thread_time() - began, 1),
    }


def become(task: Task, model: Any, ids: Any) -> dict[str, Any]:
    """Turn the model into what the task asks for, in place: its bytes, and the seconds that this took."""
    import torch

    from labkit.quantization.calibration import decoder_layers, linears
    from labkit.quantization.eight_bit_cache import bytes_per_token, keep_in_8_bits
    from labkit.quantization.model import bytes_in_all, quantize_model

    weights = sum(layer.weight.numel() for layer in linears(decoder_layers(model)).values())
    width = 4 if task.method == "float32" else 2
    plain = {"bytes": bytes_in_all(model, width=width), "linear_bytes": width * weights, "bits_per_weight": 8 * width, "seconds": 0.0,
             "kv_bytes_per_token": kv_width(model) * width}
    if task.method == "bfloat16":
        model.to(torch.bfloat16)
    elif task.method.startswith("kv-"):
        format = KV_FORMATS[task.method.removeprefix("kv-")]
        keep_in_8_bits(model, format)
        plain["kv_bytes_per_token"] = bytes_per_token(model, format)
    elif task.method in METHODS:
        began = time.thread_time()
        bits = task.bits if METHODS[task.method].takes_bits else None
        result = quantize_model(model, task.method, bits, task.group_size, ids, **task.options)
        plain |= {"seconds": round(time.thread_time() - began, 2), "bytes": bytes_in_all(model, result), "linear_bytes": result.nbytes,
                  "bits_per_weight": round(result.bits_per_weight, 4)}
    return plain


def unpack(model: Any) -> None:
    """Plain linear layers in the place of packed ones that multiply with their `dequantize()`: the same outputs, unpacked once for all."""
    from torch import nn

    from labkit.quantization.packed import PackedLinear

    for name, layer in list(model.named_modules()):
        if isinstance(layer, PackedLinear) and not layer.packed.quantizes_inputs:
            plain = nn.Linear(layer.in_features, layer.out_features, bias=False)
            plain.weight.data, plain.bias = layer.packed.dequantize(), layer.bias
            parent, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(parent), leaf, plain)


def kv_width(model: Any) -> int:
    """Numbers in the KV cache of one token, over all layers."""
    config = model.config
    return 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim


def speed(ruler: Ruler) -> float:
    """Greedy tokens a second of one request, prompt included, the better of two runs."""
    from labkit.quantization.quality import greedy

    head = ruler.tokenizer("Once upon a time there was").input_ids
    times = []
    for _ in range(2):
        began = time.thread_time()
        greedy(ruler, head, SPOKEN)
        times.append(time.thread_time() - began)
    return round(SPOKEN / min(times), 1)


def against(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each calibrated method with a grid beside plain rounding to the same kind of grid, as ratios: below 1 is better."""
    plain = {(row["bits"], row["options"].get("symmetric", True)): row for row in rows if row["method"] == "rtn" and row["group_size"]}
    found = []
    for row in rows:
        other = plain.get((row["bits"], row["method"] != "awq"))
        if row["method"] in ("gptq", "awq") and other and row["bits"] < 8:  # at 8 bits both divergences are lost in rounding
            found.append({"method": row["method"], "bits": row["bits"], "kl": round(row["kl"] / other["kl"], 4),
                          "perplexity": round(row["perplexity"] / other["perplexity"], 5)})
    return found


def paired(count: int) -> list[dict[str, Any]]:
    """GPTQ and AWQ beside plain rounding to the same kind of grid, document by document: the mean difference in nats a token, below 0 is
    better, and its standard error over the documents. From the cache, if it is there."""
    from labkit.models.measure import Ruler
    from labkit.models.text.corpus import document
    from labkit.quantization.cache import cached
    from labkit.quantization.model import quantize_model
    from labkit.quantization.text import LENGTH, calibration_text

    texts = [document(f"held out/paired/{n}", 256).text for n in range(count)]

    def compute() -> dict[str, Any]:
        ruler = Ruler(folder("tiny"))
        original = ruler.model
        ids = calibration_text(original, ruler.tokenizer, ROWS, LENGTH).ids
        found = []
        for method, bits in ((method, bits) for method in ("gptq", "awq") for bits in (4, 3)):
            nats = {}
            for name in (method, "rtn"):
                ruler.model = copy.deepcopy(original)
                quantize_model(ruler.model, name, bits, GROUP_SIZE, ids, symmetric=method == "gptq")
                unpack(ruler.model)
                nats[name] = [ruler.nats(text) for text in texts]
            tokens = sum(tokens for _, tokens in nats[method])
            differences = [ours - theirs for (ours, _), (theirs, _) in zip(nats[method], nats["rtn"], strict=True)]
            error = statistics.stdev(differences) * count**0.5 / tokens
            found.append({"method": method, "bits": bits, "nats": round(sum(differences) / tokens, 6), "standard_error": round(error, 6)})
            print(f"{method} {bits}: {found[-1]['nats']:+.5f} nats a token, standard error {error:.5f}", file=sys.stderr, flush=True)
        return {"paired": found}

    return cached({"bench": "quantization", "paired": count, "rows": ROWS}, folder("tiny"), compute)["paired"]


def heading() -> str:
    """Over the lines."""
    return (f"{'':<32}{'MB':>7}{'bits':>7}{'perpl.':>8}{'KL':>10}{'recall':>8}{'1024':>6}{'copy':>6}{'same':>6}{'first':>7}{'tok/s':>7}"
            f"{'s':>7}")


def line(row: dict[str, Any]) -> str:
    """A row for people."""
    name = Task(row["method"], row["bits"], row["group_size"], row["options"]).name
    tokens = "-" if row["tokens_per_s"] is None else f"{row['tokens_per_s']:.0f}"
    return (f"{name:<32}{row['bytes'] / 1e6:>7.2f}{row['bits_per_weight']:>7.2f}{row['perplexity']:>8.3f}{row['kl']:>10.5f}"
            f"{row['recall']:>8.0%}{row['recall_by']['1024']:>6.0%}{row['copy']:>6.0%}{row['same_continuations']:>6.0%}"
            f"{row['first_difference']:>7.1f}{tokens:>7}{row['seconds']:>7.1f}")

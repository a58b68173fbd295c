"""`labkit bench agreement`: exported checkpoints in the real vLLM beside the same packed weights in the lab, greedily, token by token."""
from __future__ import annotations

import contextlib
import json
import statistics
import sys
import tempfile
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.bench.report import parser, write
from labkit.models.registry import folder
from labkit.quantization.command import main as quantize

if TYPE_CHECKING:
    from torch import nn

USERS = 8  # at once


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint to make, and the dtype that vLLM computes it in (its 4-bit kernel for CPUs has 16 bits only)."""

    name: str
    method: str
    format: str
    dtype: str


CHECKPOINTS = (
    Checkpoint("gptq", "gptq", "gptq", "float16"),
    Checkpoint("awq", "awq", "awq", "float16"),
    Checkpoint("w4a16", "gptq", "compressed-tensors", "float16"),
    Checkpoint("w8a8", "smoothquant", "compressed-tensors", "float32"),
)


@dataclass(slots=True)
class Parting:
    """Where a greedy continuation leaves what the model would have said, and by how many nats the model preferred its own token."""

    place: int
    gap: float


def main(argv: list[str]) -> int:
    """Greedy continuations by vLLM of GPTQ, AWQ, W4A16 and W8A8 checkpoints, beside those of the same packed weights in the lab."""
    parse = parser("agreement", main.__doc__)
    parse.add_argument("--prompts", type=int, default=50, help="(default: %(default)s)")
    parse.add_argument("--tokens", type=int, default=64, help="greedy ones after each prompt (default: %(default)s)")
    parse.add_argument("--checkpoints", nargs="+", choices=[one.name for one in CHECKPOINTS], help="only these (default: all)")
    options = parse.parse_args(argv)
    heads = prompts(options.prompts)
    rows = []
    for checkpoint in CHECKPOINTS:
        if options.checkpoints and checkpoint.name not in options.checkpoints:
            continue
        with tempfile.TemporaryDirectory(prefix="labkit-agreement-") as place:
            out = Path(place) / checkpoint.name
            make(checkpoint, out)
            rows.append(compare(checkpoint, out, heads, options.tokens))
        print(line(rows[-1]), file=sys.stderr, flush=True)
    if not options.json:
        print("\n".join(map(line, rows)))
    write("quantization-vllm", ["agreement", *argv], options, {"prompts": options.prompts, "tokens": options.tokens, "rows": rows})
    return 0


def prompts(count: int) -> list[list[int]]:
    """Token ids of seeded prompts of all kinds."""
    from transformers import AutoTokenizer

    from labkit.models.prompts import prompt
    from labkit.quantization.quality import KINDS

    tokenizer = AutoTokenizer.from_pretrained(folder("tiny"))
    return [tokenizer(prompt(KINDS[n % len(KINDS)], f"vllm/{n}").text).input_ids for n in range(count)]


def make(checkpoint: Checkpoint, out: Path) -> None:
    """Write the shipped model's checkpoint into `out`, as `labkit quantize` does."""
    with contextlib.redirect_stdout(sys.stderr):
        status = quantize(["tiny", "--method", checkpoint.method, "--format", checkpoint.format, "--out", str(out)])
    if status:
        raise RuntimeError(f"the checkpoint {checkpoint.name} could not be made")


def compare(checkpoint: Checkpoint, path: Path, heads: list[list[int]], tokens: int) -> dict[str, Any]:
    """One row: vLLM's continuations beside the lab's, which are computed in vLLM's dtype and in float32."""
    import torch

    from labkit.quantization.export.load import load_model
    from labkit.servers import serve

    with serve("vllm", model=path, dtype=checkpoint.dtype, share=False, progress=False) as server:
        tails = continuations(server, heads, tokens)
    model = load_model(path)
    row = {"checkpoint": checkpoint.name, "method": checkpoint.method, "format": checkpoint.format, "dtype": checkpoint.dtype}
    row["float32"] = summary(partings(model, heads, tails), len(heads))
    if checkpoint.dtype != "float32":
        row[checkpoint.dtype] = summary(partings(model.to(getattr(torch, checkpoint.dtype)), heads, tails), len(heads))
    return row


def continuations(server: Any, heads: list[list[int]], tokens: int) -> list[list[int]]:
    """vLLM's greedy tokens after each of the heads."""
    with ThreadPoolExecutor(USERS) as users:
        return list(users.map(lambda head: complete(server, head, tokens), heads))


def complete(server: Any, ids: list[int], tokens: int) -> list[int]:
    body = {"model": server.model, "prompt": ids, "temperature": 0, "max_tokens": tokens, "return_token_ids": True, "ignore_eos": True}
    request = urllib.request.Request(server.url + "/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as response:
        return json.load(response)["choices"][0]["token_ids"]


def partings(model: nn.Module, heads: list[list[int]], tails: list[list[int]]) -> list[Parting]:
    """The first difference of each continuation that has one, seen by the lab's model.

    One pass over head and tail decides it: up to the first difference both have the same tokens before them.
    """
    import torch

    found = []
    for head, tail in zip(heads, tails, strict=True):
        with torch.inference_mode():
            table = model(torch.tensor([head + tail[:-1]])).logits[0].float().log_softmax(-1)[len(head) - 1 :]
        best = table.argmax(-1).tolist()
        place = next((n for n, (ours, theirs) in enumerate(zip(best, tail, strict=True)) if ours != theirs), None)
        if place is not None:
            found.append(Parting(place, (table[place, best[place]] - table[place, tail[place]]).item()))
    return found


def summary(found: list[Parting], prompts: int) -> dict[str, Any]:
    """For JSON: how many continuations are the same to the end, and the gaps where the others part."""
    gaps = sorted(parting.gap for parting in found)
    return {"same": prompts - len(found), "share": round(1 - len(found) / prompts, 4), "places": [parting.place for parting in found],
            "gap_median": round(statistics.median(gaps), 4) if gaps else None, "gap_most": round(gaps[-1], 4) if gaps else None,
            "gaps": [round(gap, 4) for gap in gaps]}


def line(row: dict[str, Any]) -> str:
    """A row for people."""
    sides = []
    for dtype in dict.fromkeys(("float32", row["dtype"])):
        side = row[dtype]
        most = "" if side["gap_most"] is None else f", greatest gap {side['gap_most']:.3f} nats"
        sides.append(f"lab in {dtype}: {side['share']:.0%} the same{most}")
    return f"{row['checkpoint']:<7} vLLM in {row['dtype']}; " + "; ".join(sides)

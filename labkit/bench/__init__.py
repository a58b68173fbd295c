"""`labkit bench NAME`: the lab measures itself. Each measurement is `main(argv) -> exit status` in a module of its own."""
from __future__ import annotations

import argparse
from importlib import import_module

BENCHES = {
    "machine": ("labkit.bench.machine", "memory bandwidth and arithmetic of this machine: the roofline's ceilings"),
    "ready": ("labkit.bench.ready", "how long each server takes until it can serve, and where the time goes"),
    "hygiene": ("labkit.bench.hygiene", "what is left of a server when its kernel ends in every way a kernel can end"),
    "probe": ("labkit.bench.probe", "whether the vLLM probe tells the truth, and what it costs"),
    "laws": ("labkit.bench.laws", "random workloads under every batching policy, each held to every law"),
    "scheduler": ("labkit.bench.scheduler", "microseconds of schedule(), beside vLLM's own scheduler"),
    "glassbox": ("labkit.bench.glassbox", "the glass box beside the real vLLM under one streamed load"),
    "offline": ("labkit.bench.offline", "the glass box beside transformers' static batches, and beside the roofline"),
    "batches": ("labkit.bench.batches", "tokens per second at several batch sizes, beside transformers; on a GPU where there is one"),
    "quantize": ("labkit.bench.quantize", "a glass box quantized while it serves: blocks, requests at once, nobody lost, tokens equal"),
    "views": ("labkit.bench.views", "frame rate and bytes a frame of the KV map and of the batch timeline"),
    "quantization": ("labkit.bench.quantization", "every method and number of bits: quality, bytes, speed"),
    "agreement": ("labkit.bench.agreement", "exported checkpoints in the real vLLM beside the same packed weights in the lab"),
    "references": ("labkit.bench.references", "the lab's methods beside bitsandbytes, torchao and llm-compressor on the same tensors"),
}


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="labkit bench", description="The lab measures itself. `labkit bench NAME --help` says more.",
                                     formatter_class=argparse.RawDescriptionHelpFormatter,
                                     epilog="\n".join(f"  {name:<14}{about}" for name, (_, about) in BENCHES.items()))
    parser.add_argument("name", choices=BENCHES, metavar="NAME", help=", ".join(BENCHES))
    return import_module(BENCHES[parser.parse_args(argv[:1]).name][0]).main(argv[1:])

"""`labkit bench NAME`: the lab measures itself. Each measurement is `main(argv) -> exit status` in a module of its own."""
from __future__ import annotations

import sys
from importlib import import_module

BENCHES = {
    "ready": ("labkit.bench.ready", "how long each server takes until it can serve, and where the time goes"),
    "hygiene": ("labkit.bench.hygiene", "what is left of a server when its kernel ends in every way a kernel can end"),
    "probe": ("labkit.bench.probe", "whether the vLLM probe tells the truth, and what it costs"),
    "views": ("labkit.bench.views", "frame rate and bytes a frame of the KV map"),
}


def main(argv: list[str]) -> int:
    if not argv or argv[0] not in BENCHES:
        lines = [f"  {name:<10}{about}" for name, (_, about) in BENCHES.items()]
        asked = bool(argv) and argv[0] not in ("-h", "--help")
        print("\n".join(["usage: labkit bench NAME [OPTIONS]", "", *lines]), file=sys.stderr if asked else sys.stdout)
        return 2 if asked else 0
    return import_module(BENCHES[argv[0]][0]).main(argv[1:])

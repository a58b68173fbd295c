"""The glass box, in the caller's own environment."""
from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from labkit.servers.driver import Launch, Order, served_name

NEEDED = 700 << 20  # bytes: torch, the shipped model and its cache


class GlassBox:
    """`python -m labkit.glassbox.server`, which writes its own trace."""

    name = "glassbox"
    badge = "live"

    def environments(self, flags: list[str]) -> list[str]:
        return []

    def plan(self, order: Order) -> Launch:
        url = f"http://127.0.0.1:{order.port}"
        name = served_name(order)
        argv = [sys.executable, "-m", "labkit.glassbox.server", "--model", order.model, "--port", str(order.port),
                "--served-model-name", name, *order.flags, "--trace-socket", str(order.trace_socket),
                "--trace-file", str(order.run_file), "--trace-name", f"glass box, {name}"]
        root = str(Path(__file__).parents[2])
        path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
        return Launch(argv, f"{url}/health", env={"PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}, metrics_url=f"{url}/metrics",
                      model=name, traced=True, memory=NEEDED, grace=4.0)

    def phase(self, line: str) -> str | None:
        found = re.search(r" labkit\.glassbox: ((?:importing|loading|quantizing|allocating)[^(:]*)", line)
        return found[1].split(" from ")[0].strip() if found else None

    def explain(self, log: str) -> str | None:
        """argparse's own message, or the last line of a traceback."""
        if found := re.findall(r"^\S*: error: (.+)$", log, re.MULTILINE):
            return f"{found[-1]}. `python -m labkit.glassbox.server --help` lists the options"
        if found := re.findall(r"^(?:[\w.]*\.)?(\w*(?:Error|Exception|Interrupt)): (.+)$", log, re.MULTILINE):
            return f"{found[-1][1]} ({found[-1][0]})"
        return None

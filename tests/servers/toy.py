"""A server small enough to test the guard with every way of dying; the drivers' own tests use the real servers."""
from __future__ import annotations

import sys
from pathlib import Path

from labkit.servers.driver import Launch, Order, given


class Toy:
    """Options: --slow SECONDS, --fail TEXT, --kill (itself, while starting), --children, --deaf (ignores SIGTERM),
    --tidy FILE (deaf too, makes it when its child is gone). GET /die kills it."""

    name = "toy"
    badge = "stand-in"

    def environments(self, flags):
        return []

    def plan(self, order: Order) -> Launch:
        url = f"http://127.0.0.1:{order.port}"
        argv = [sys.executable, str(Path(__file__).with_name("toy_server.py")), "--port", str(order.port), *order.flags]
        memory = int(str(given(order.flags, "memory") or 0))
        return Launch(argv, f"{url}/health", model="toy", memory=memory, grace=1.0, metrics_url=f"{url}/metrics")

    def phase(self, line: str) -> str | None:
        return line.removeprefix("PHASE ") if line.startswith("PHASE ") else None

    def explain(self, log: str) -> str | None:
        return next((line.removeprefix("CAUSE ") for line in log.splitlines() if line.startswith("CAUSE ")), None)

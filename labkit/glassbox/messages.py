"""What the HTTP process and the engine process tell each other. A module of its own: pickled records need one home in both."""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from labkit.glassbox.options import EngineOptions


@dataclass(slots=True)
class Setup:
    """Everything the engine process needs to know to start."""

    model: str  # folder
    options: EngineOptions  # resolved
    trace_socket: Path | None = None
    trace_file: Path | None = None
    trace_name: str = ""


@dataclass(slots=True)
class Stats:
    """The scheduler after a step; counters since the start."""

    running: int = 0
    waiting: int = 0
    kv_usage: float = 0.0  # 0 to 1
    preemptions: int = 0
    prefix_queries: int = 0  # tokens
    prefix_hits: int = 0  # tokens
    iteration_tokens: int = 0  # of this step

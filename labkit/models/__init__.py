"""The shipped tiny model, the code that made it, named shapes, and hub models by name."""

from __future__ import annotations

from pathlib import Path

__all__ = ["folder"]


def folder(name: str | Path = "tiny") -> Path:
    """The local folder of a model: "tiny", a folder's path, or a hub name such as "Qwen/Qwen3-0.6B"."""
    from labkit.models.registry import folder

    return folder(name)

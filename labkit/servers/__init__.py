"""Start, share, attach to and stop servers. Every server lives under a guard process that ends it when its last user is gone."""
from __future__ import annotations

from importlib import import_module
from typing import Any

_HOME = {"serve": "server", "attach": "server", "Server": "server", "sweep": "registry", "ServerError": "driver"}
__all__ = ["Server", "ServerError", "attach", "serve", "sweep"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"labkit.servers.{_HOME[name]}"), name)
    raise AttributeError(f"module 'labkit.servers' has no attribute {name!r}")

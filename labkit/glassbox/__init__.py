"""The glass box: a serving engine small enough to read and fast enough to use.

Reading order: `request`, `block_pool`, `prefix_cache`, `kv_manager`, `scheduler` and `policies.chunked` decide *what* runs, with block
ids only and no torch; `kv_cache`, `attention`, `model` and `sampler` compute it; `runner` turns the one into the other, and `whole_step`
does so quickly; `engine.step()` is the loop. `server` puts it on HTTP in the OpenAI protocol. `quantized_linear`, `quantized_kv`,
`workshop` and `switch` are for fewer bits.
"""
from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "Engine": "engine",
    "EngineOptions": "options",
    "OptionsError": "options",
    "RequestOutput": "outputs",
    "SamplingParams": "sampling_params",
    "InvariantError": "invariants",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    """Public names are imported when first used: the scheduler must be usable without torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)

"""Serving Lab: start a server from a notebook, send it load, and watch what happens inside it.

The names a notebook uses are imported on first use, so that `import labkit` stays far below a second.
"""

from importlib import import_module

__version__ = "0.1.0"

_HOMES = {
    "doctor": "labkit.environments.doctor",
    "serve": "labkit.servers",
    "attach": "labkit.servers",
    "sweep": "labkit.servers",
    "watch": "labkit.views",
    "look": "labkit.views",
    "load": "labkit.load",
    "race": "labkit.race",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str):
    """The public object `name`, imported now. `labkit.load` and `labkit.race` are packages that can be called."""
    if name not in _HOMES:
        raise AttributeError(f"labkit has no {name!r}; it has {', '.join(sorted(_HOMES))} and its packages (import labkit.trace, ...)")
    module = import_module(_HOMES[name])
    return module if module.__name__ == f"labkit.{name}" else getattr(module, name)


def __dir__() -> list[str]:
    return sorted(__all__)

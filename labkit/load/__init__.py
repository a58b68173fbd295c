"""The lab's one ruler: seeded arrivals and prompts, a generator in a process of its own, records, metric definitions, results.

The package is a function too: `labkit.load(server, rate=4, requests=64)` is `labkit.load.run.load`.
"""
from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _LoadPackage(ModuleType):
    """Importing any module below `labkit.load` binds the package to the name `labkit.load`, so the package itself must be callable."""

    def __call__(self, server: Any, *args: Any, **options: Any):
        from labkit.load.run import load

        return load(server, *args, **options)


sys.modules[__name__].__class__ = _LoadPackage

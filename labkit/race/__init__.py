"""Batching policies raced on one trace of requests, in real time with the real model or on a clock of what steps cost.

The package is a function too: `labkit.race(["static", "chunked"], workload)` is `labkit.race.run.race`.
"""
from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from labkit.race.step_cost import StepCost
from labkit.race.workload import Item, Workload, WorkloadError

__all__ = ["Item", "StepCost", "Workload", "WorkloadError", "calibrate"]


def calibrate(*args: Any, **options: Any) -> StepCost:
    """See `labkit.race.calibration.calibrate`."""
    from labkit.race.calibration import calibrate

    return calibrate(*args, **options)


class _RacePackage(ModuleType):
    """Importing any module below `labkit.race` binds the package to the name `labkit.race`, so the package itself must be callable."""

    def __call__(self, policies: Any, *args: Any, **options: Any):
        from labkit.race.run import race

        return race(policies, *args, **options)


sys.modules[__name__].__class__ = _RacePackage

"""Batching policies: each a `Scheduler` with a `schedule` of its own, in a file named after what it is."""
from __future__ import annotations

import inspect
from dataclasses import replace
from typing import Any

from labkit.glassbox.options import EngineOptions, OptionsError
from labkit.glassbox.policies.chunked import ChunkedScheduler
from labkit.glassbox.scheduler import Scheduler

POLICIES: dict[str, type[Scheduler]] = {
    "chunked": ChunkedScheduler,
}
# Engine options that are part of how a policy schedules: they may be given beside its own parameters.
SHARED = ("max_num_seqs", "max_num_batched_tokens", "enable_chunked_prefill", "enable_prefix_caching")


def make_scheduler(policy: str | type[Scheduler], options: EngineOptions, **parameters: Any) -> Scheduler:
    """A scheduler of a policy, by name or by class, over resolved `options`. Raises `OptionsError` naming what there is to choose from."""
    cls = find_policy(policy)
    own = parameters_of(cls)
    if unknown := [name for name in parameters if name not in own and name not in SHARED]:
        names = ", ".join([*own, *SHARED])
        raise OptionsError(f"policy {policy_name(policy)!r} has no parameter {unknown[0]!r}; it has {names}")
    shared = {name: parameters.pop(name) for name in SHARED if name in parameters and name not in own}
    if shared:
        options = replace(options, **shared)
        options.resolve(options.max_model_len)
    return cls(options, **parameters)


def find_policy(policy: str | type[Scheduler]) -> type[Scheduler]:
    if isinstance(policy, type) and issubclass(policy, Scheduler):
        return policy
    if policy in POLICIES:
        return POLICIES[policy]
    raise OptionsError(f"there is no policy {policy!r}; choose {', '.join(POLICIES)}, or give a class that derives from Scheduler")


def policy_name(policy: str | type[Scheduler]) -> str:
    return policy if isinstance(policy, str) else policy.__name__


def parameters_of(policy: type[Scheduler]) -> dict[str, inspect.Parameter]:
    """A policy's parameters by name: what its `__init__` takes beside `self` and `options`."""
    _, _, *parameters = inspect.signature(policy.__init__).parameters.values()
    return {parameter.name: parameter for parameter in parameters}

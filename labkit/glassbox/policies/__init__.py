"""Batching policies: each a `Scheduler` with a `schedule` of its own, in a file named after what it is. docs/policies.md compares them."""
from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from typing import Any

from labkit.glassbox.options import EngineOptions, OptionsError
from labkit.glassbox.policies.chunked import ChunkedScheduler
from labkit.glassbox.policies.continuous import ContinuousScheduler
from labkit.glassbox.policies.dynamic import DynamicScheduler
from labkit.glassbox.policies.parameters import parameters_of
from labkit.glassbox.policies.static import StaticScheduler
from labkit.glassbox.policies.tgi import TGIScheduler
from labkit.glassbox.scheduler import Scheduler

POLICIES: dict[str, type[Scheduler]] = {
    "static": StaticScheduler,
    "dynamic": DynamicScheduler,
    "tgi": TGIScheduler,
    "continuous": ContinuousScheduler,
    "chunked": ChunkedScheduler,
}


def make_scheduler(policy: str | type[Scheduler], options: EngineOptions, **parameters: Any) -> Scheduler:
    """A scheduler of a policy, by name or by class, over resolved `options`. Raises `OptionsError` naming what there is to choose from."""
    cls = find_policy(policy)
    own = parameters_of(cls)
    names = [*own, *(name for name in cls.engine_options if name not in own)]
    if unknown := [name for name in parameters if name not in names]:
        raise OptionsError(f"policy {policy_name(policy)!r} has no parameter {unknown[0]!r}; it has {', '.join(names)}")
    if given := {name: parameters.pop(name) for name in names if name in parameters and name not in own}:
        options = replace(options, **given)
        options.resolve(options.max_model_len)
    return cls(options, **parameters)


def find_policy(policy: str | type[Scheduler]) -> type[Scheduler]:
    """A class as it is, a name of `POLICIES`, or "package.module:Class" for one of your own that another process can import."""
    if isinstance(policy, type) and issubclass(policy, Scheduler):
        return policy
    if policy in POLICIES:
        return POLICIES[policy]
    if isinstance(policy, str) and ":" in policy:
        module, _, name = policy.partition(":")
        try:
            found = getattr(import_module(module), name)
        except (ImportError, AttributeError) as error:
            raise OptionsError(f"policy {policy!r} cannot be imported: {error}") from error
        return find_policy(found)
    raise OptionsError(f"there is no policy {policy!r}; choose {', '.join(POLICIES)}, or give a class that derives from Scheduler")


def policy_name(policy: str | type[Scheduler]) -> str:
    return policy if isinstance(policy, str) else policy.__name__

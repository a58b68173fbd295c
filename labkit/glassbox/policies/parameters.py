"""A policy's parameters, read from its `__init__`: names, types, defaults; and the command line options that carry them."""
from __future__ import annotations

import argparse
import inspect
import json
from collections.abc import Mapping
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

from labkit.glassbox.options import flag
from labkit.glassbox.scheduler import Scheduler


def parameters_of(policy: type[Scheduler]) -> dict[str, inspect.Parameter]:
    """What a policy's `__init__` takes beside `self` and `options`, by name."""
    _, _, *parameters = inspect.signature(policy.__init__).parameters.values()
    return {parameter.name: parameter for parameter in parameters}


def add_arguments(parser: argparse.ArgumentParser, policies: Mapping[str, type[Scheduler]]) -> None:
    """One option for each parameter of each policy; policies that share a name share the option. Options not given stay None."""
    users: dict[str, list[str]] = {}
    types: dict[str, Any] = {}
    for name, policy in policies.items():
        hints = get_type_hints(policy.__init__)
        for parameter in parameters_of(policy).values():
            users.setdefault(parameter.name, []).append(f"{name}: default {parameter.default}")
            types[parameter.name] = hints.get(parameter.name, str)
    group = parser.add_argument_group("parameters of policies")
    for name, kind in types.items():
        group.add_argument(flag(name), help="; ".join(users[name]), **_argument(kind))


def given_parameters(args: argparse.Namespace, policies: Mapping[str, type[Scheduler]]) -> dict[str, Any]:
    """The parameters that stand on a command line parsed with `add_arguments`."""
    names = dict.fromkeys(name for policy in policies.values() for name in parameters_of(policy))
    return {name: getattr(args, name) for name in names if getattr(args, name) is not None}


def _argument(kind: Any) -> dict[str, Any]:
    """argparse's words for a type: int, float, str, bool, a list of those, a dict (JSON), any of them or None."""
    kind = next((option for option in get_args(kind) if option is not NoneType), kind) if NoneType in get_args(kind) else kind
    if kind is bool:
        return {"action": argparse.BooleanOptionalAction}
    if get_origin(kind) is list:
        return {"nargs": "+", "type": get_args(kind)[0]}
    if get_origin(kind) is dict:
        return {"type": json.loads, "metavar": "JSON"}
    return {"type": kind}

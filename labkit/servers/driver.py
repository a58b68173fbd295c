"""What a server has to tell labkit so that it can be started, watched and explained: one `Driver` per server.

A driver starts nothing. `plan` turns an `Order` into a `Launch`, in the caller's process; the guard runs the launch and asks
the same driver to read the log: `phase` while the server starts, `explain` when it has failed. Driver modules import
cheaply (stdlib only at module level), because the guard imports them too.
"""
from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Protocol

DRIVERS = {
    "glassbox": "labkit.servers.glassbox:GlassBox",
    "vllm": "labkit.servers.vllm:Vllm",
    "triton": "labkit.servers.triton:Triton",
}
FLAG = re.compile(r"--?[A-Za-z]")  # a word that begins an option; -1 is a value


class ServerError(RuntimeError):
    """A server that could not be started or has ended. The message names the cause, the remedy and the log."""


@dataclass(slots=True)
class Order:
    """What a user asked for, with the places that are reserved for this one server."""

    model: str  # the model's folder
    name: str  # what clients will call it: "tiny", the folder's name, a hub name
    flags: list[str]  # the user's options as command line words, in the server's own names: ["--block-size", "32"]
    port: int  # free on 127.0.0.1, the server's main HTTP port
    folder: Path  # exists, empty, private; removed when the server has stopped
    log: Path  # stdout and stderr of the server
    trace_socket: Path  # where a server that traces serves live events
    run_file: Path  # where it writes them


@dataclass(slots=True)
class Launch:
    """How to start one server. Everything is plain data: it travels to the guard as JSON."""

    argv: list[str]
    ready_url: str  # GET answers 200 once the server can serve
    env: dict[str, str] = field(default_factory=dict)  # added to the caller's environment
    unset: list[str] = field(default_factory=list)  # variables taken out of it
    cwd: str | None = None
    model: str = ""  # name that clients put into a request
    metrics_url: str = ""  # Prometheus text; "" when the server has none
    ports: dict[str, int] = field(default_factory=dict)  # further ports by purpose: {"grpc": 8001}
    traced: bool = False  # the server serves `trace_socket` and writes `run_file`
    memory: int = 0  # bytes of main memory without which the start is refused
    grace: float = 8.0  # seconds between SIGTERM and SIGKILL


def import_path(*roots: Path) -> str:
    """PYTHONPATH of a server in an environment of its own: `roots`, then the user's own code, but no other environment's packages."""
    inherited = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    own = [entry for entry in inherited if entry and Path(entry).name not in ("site-packages", "dist-packages")]
    return os.pathsep.join([*map(str, roots), *own])


class Driver(Protocol):
    """One server. Instances hold no state."""

    name: str  # "vllm"
    badge: str  # "live" or "stand-in"

    def environments(self, flags: list[str]) -> list[str]:
        """Which `labkit install` environments a server with these options needs; none where it runs in the caller's own."""
        ...

    def plan(self, order: Order) -> Launch:
        """The launch for this order. Raises `ServerError` for what can be seen to be wrong before the start."""
        ...

    def phase(self, line: str) -> str | None:
        """What the server is doing, in a learner's words, if this log line tells of a new phase of the start."""
        ...

    def explain(self, log: str) -> str | None:
        """Cause and remedy, if the last part of the log of a server that ended shows one."""
        ...


def driver(name: str) -> Driver:
    """The driver called `name`, or of the class "module:Class". Raises `ServerError` for an unknown one."""
    place = DRIVERS.get(name, name)
    if ":" not in place:
        raise ServerError(f"there is no server called {name!r}: labkit knows {', '.join(DRIVERS)}")
    module, _, attribute = place.partition(":")
    return getattr(import_module(module), attribute)()


def words(settings: dict[str, object]) -> list[str]:
    """Settings as command line words in canonical order.

    `block_size=32` gives `--block-size 32`, `True` the bare flag, `False` its `--no-` form, a list one word per item,
    a dict its JSON, `None` nothing.
    """
    out: list[str] = []
    for name, value in settings.items():
        flag = name.replace("_", "-")
        if value is None:
            continue
        if value is True or value is False:
            out.append(f"--{flag}" if value else f"--no-{flag}")
        elif isinstance(value, (list, tuple)):
            out += [f"--{flag}", *map(str, value)]
        else:
            out += [f"--{flag}", json.dumps(value, sort_keys=True) if isinstance(value, dict) else str(value)]
    return canonical(out)


def canonical(flags: list[str]) -> list[str]:
    """Command line words with their flags in sorted order, so that equal settings are equal lists.

    Raises `ServerError` for a word that belongs to no flag.
    """
    groups: list[list[str]] = []
    for word in flags:
        if FLAG.match(word):
            groups.append(word.split("=", 1))
        elif groups:
            groups[-1].append(word)
        else:
            raise ServerError(f"{word!r} is no option: options look like --block-size 32")
    return [word for group in sorted(groups) for word in group]


def options(flags: list[str]) -> dict[str, object]:
    """Canonical words as a dict: bare flags True, `--no-x` as x False, several values a list, everything else text."""
    found: dict[str, object] = {}
    name = ""
    for word in flags:
        if FLAG.match(word):
            name = word.lstrip("-").replace("-", "_")
            off = name.startswith("no_")
            name = name.removeprefix("no_")
            found[name] = not off
        elif found[name] is True:
            found[name] = word
        else:
            found[name] = [*(found[name] if isinstance(found[name], list) else [found[name]]), word]
    return found


def given(flags: list[str], name: str) -> object:
    """The value of `--name` among canonical words, None where it is not there."""
    return options(flags).get(name.replace("-", "_"))


def served_name(order: Order) -> str:
    """The name that clients use: the first of `--served-model-name`, if the user gives any."""
    names = given(order.flags, "served-model-name") or order.name
    return names[0] if isinstance(names, list) else str(names)

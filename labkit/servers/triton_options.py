"""What `lab.serve("triton", ...)` can be told, sorted by who it is for: labkit's repository, the engine, tritonserver."""
from __future__ import annotations

import argparse
import difflib
from dataclasses import dataclass, field, fields
from pathlib import Path

from labkit.servers.driver import FLAG, ServerError

ENGINES = ("glassbox", "vllm")
PLACES = ("backend-directory", "grpc-address", "grpc-port", "http-address", "http-port", "metrics-address", "metrics-port")


@dataclass(slots=True)
class TritonOptions:
    """The batcher's settings are those of config.pbtxt and bear its names; they act on the model `next_token`."""

    engine: str = "glassbox"  # the language model's engine: "glassbox" or "vllm"
    container: bool | None = None  # vLLM in NVIDIA's container; None: where there is a GPU
    dynamic_batching: bool = True
    max_queue_delay_microseconds: int = 0  # how long a request may wait for others to join its batch
    preferred_batch_size: list[int] = field(default_factory=list)  # sizes that go at once; any size goes when the delay is over
    max_batch_size: int = 8
    ragged_batch: bool = True  # requests of different lengths may share a batch
    instance_count: int = 1  # copies of the batched model, each with its own weights and process
    model_repository: list[Path] = field(default_factory=list)  # the user's own, beside labkit's
    engine_flags: list[str] = field(default_factory=list)
    server_flags: list[str] = field(default_factory=list)  # as tritonserver wants them: --name=value


def parse(flags: list[str], server_flags: set[str]) -> TritonOptions:
    """Options from command line words. `server_flags` are the names that tritonserver knows; what neither it nor labkit knows is the
    engine's. Raises `ServerError` for a value that cannot be, and for a name that the glass box does not know either."""
    known, rest = _parser().parse_known_args(flags)
    options = TritonOptions(**vars(known))
    _check(options)
    for name, values in _groups(rest):
        positive = name.removeprefix("no-") if name not in server_flags else name
        if name in PLACES:
            raise ServerError(f"labkit chooses --{name} itself: give port=... for the HTTP port and leave the rest out")
        if positive in server_flags:
            value = " ".join(values) or ("true" if positive == name else "false")
            options.server_flags.append(f"--{positive}={value}")
        else:
            options.engine_flags += [f"--{name}", *values]
            if options.engine == "glassbox":
                _check_name(name, server_flags)
    return options


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:
        raise ServerError(f"triton: {message}")


def _parser() -> argparse.ArgumentParser:
    defaults = TritonOptions()
    parser = _Parser(prog="labkit serve triton", add_help=False, allow_abbrev=False)
    parser.add_argument("--engine", choices=ENGINES, default=defaults.engine)
    for name in ("container", "dynamic_batching", "ragged_batch"):
        parser.add_argument(_flag(name), action=argparse.BooleanOptionalAction, default=getattr(defaults, name))
    for name in ("max_queue_delay_microseconds", "max_batch_size", "instance_count"):
        parser.add_argument(_flag(name), type=int, default=getattr(defaults, name))
    parser.add_argument("--preferred-batch-size", type=int, nargs="+", default=[])
    parser.add_argument("--model-repository", type=Path, nargs="+", default=[])
    return parser


def _check(options: TritonOptions) -> None:
    for name, least in (("max_queue_delay_microseconds", 0), ("max_batch_size", 1), ("instance_count", 1)):
        if (value := getattr(options, name)) < least:
            raise ServerError(f"{_flag(name)} must be at least {least}, got {value}")
    if wrong := [size for size in options.preferred_batch_size if not 1 <= size <= options.max_batch_size]:
        raise ServerError(f"--preferred-batch-size {wrong[0]} is not from 1 to --max-batch-size {options.max_batch_size}: Triton could "
                          f"never form such a batch. Give another size, or raise --max-batch-size")
    if options.container and options.engine != "vllm":
        raise ServerError("--container goes with --engine vllm: the glass box needs none")
    if not options.dynamic_batching and (options.preferred_batch_size or options.max_queue_delay_microseconds):
        raise ServerError("--no-dynamic-batching leaves no batcher that --preferred-batch-size or --max-queue-delay-microseconds could set")


def _check_name(name: str, server_flags: set[str]) -> None:
    from labkit.glassbox import EngineOptions

    engine = {_flag(each.name) for each in fields(EngineOptions)}
    if f"--{name.removeprefix('no-')}" in engine:
        return
    every = engine | {_flag(each.name) for each in fields(TritonOptions)} | {f"--{flag}" for flag in server_flags}
    near = difflib.get_close_matches(f"--{name}", every, n=1)
    raise ServerError(f"neither labkit's Triton, nor tritonserver, nor the glass box has an option --{name}. "
                      + (f"Did you mean {near[0]}?" if near else "`labkit serve glassbox --help` lists the engine's"))


def _groups(words: list[str]) -> list[tuple[str, list[str]]]:
    groups: list[tuple[str, list[str]]] = []
    for word in words:
        if FLAG.match(word):
            name, equals, value = word.removeprefix("--").partition("=")
            groups.append((name, [value] if equals else []))
        else:
            groups[-1][1].append(word)
    return groups


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")

"""Where measurements go: JSON with the machine, the versions and the command that made it."""
from __future__ import annotations

import argparse
import json
import platform
import shlex
from datetime import datetime
from pathlib import Path
from typing import Any

import labkit

PACKAGES = ("torch", "numpy", "numba", "transformers")  # whose versions can change what the lab's own part does


def parser(name: str, about: str) -> argparse.ArgumentParser:
    """The options that all measurements have."""
    parse = argparse.ArgumentParser(prog=f"labkit bench {name}", description=about)
    parse.add_argument("--json", action="store_true", help="the result as one JSON object on the last line")
    parse.add_argument("--output", type=Path, metavar="FILE", help="where to write it (default: the repository's benchmarks folder)")
    return parse


def write(name: str, argv: list[str], options: argparse.Namespace, result: dict[str, Any]) -> None:
    """Write `result` to benchmarks/NAME.json with its provenance, and print it if JSON is asked for."""
    from labkit.environments.machine import look
    from labkit.environments.routes import routes, version
    from labkit.load.run import hardware

    when = datetime.now().astimezone().isoformat(timespec="seconds")
    versions = {"labkit": labkit.__version__, "python": platform.python_version()} | {name: version(name) for name in PACKAGES}
    servers = {route.server: route.versions for route in routes(look()) if route.versions and route.environment}
    command = shlex.join(["labkit", "bench", *argv])
    result = {"name": name, "command": command, "when": when, "hardware": hardware(), "versions": versions, "servers": servers,
              **result}
    path = options.output or Path(labkit.__file__).parents[1] / "benchmarks" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")
    if options.json:
        print(json.dumps(result))
    else:
        print(f"written to {path}")

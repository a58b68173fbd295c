"""`labkit install vllm|triton`: the isolated, locked environment of a server, made when it is first needed."""

import argparse
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from labkit.environments import home
from labkit.environments.build import Environment, build
from labkit.environments.recipes import NAMES, server
from labkit.environments.uv import InstallError


def environment(name: str) -> Environment:
    """Where the environment `name` is or would be."""
    return Environment(name, home.environments() / name)


def install(name: str, on_progress: Callable[[str], None] | None = None) -> Environment:
    """The environment `name`, ready to use: at once when it is complete, otherwise made now, with a line of progress at a time.

    Raises `InstallError` (the message names cause and remedy).
    """
    target = environment(name)
    build(target, server(name), home.home(), on_progress or (lambda line: None))
    return target


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="labkit install", description=__doc__)
    parser.add_argument("name", choices=NAMES, help="the server, or `references`: the quantizers that tests compare with")
    parser.add_argument("--json", action="store_true", help="print one JSON object when done")
    options = parser.parse_args(argv)
    target = environment(options.name)
    try:
        plan = server(options.name)
        hurt = target.damage() if target.flaw(plan) is None else []
        if hurt:
            print(f"{options.name}: {len(hurt)} damaged files, {hurt[0]} among them; making it anew", file=sys.stderr)
            shutil.rmtree(target.folder)
        made = build(target, plan, home.home(), progress, screen=sys.stderr.isatty())
    except InstallError as error:
        progress(f"labkit install: {error}")
        if options.json:
            print(json.dumps({"name": options.name, "error": str(error)}))
        return 1
    report = {"name": target.name, "folder": str(target.folder), "python": str(target.python), "made": made}
    report |= {"seconds": target.stamp()["seconds"], "bytes": size(target.folder), "packages": target.packages()}
    if options.json:
        print(json.dumps(report))
    else:
        print(f"{options.name}: {'installed' if made else 'already installed'} in {target.folder} ({report['bytes'] / 1e9:.1f} GB)")
    return 0


def progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def size(folder: Path) -> int:
    """Bytes of all files below `folder`; links are not followed."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())

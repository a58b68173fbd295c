"""`labkit run`: execute notebooks from top to bottom, and show what they drew."""
from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any


def main(argv: list[str]) -> int:
    """Returns 0 if every notebook passed, 130 after Ctrl-C, else 1."""
    from labkit.lessons.execute import execute
    from labkit.lessons.gallery import build
    from labkit.lessons.notebook import NotebookError, find

    args = parser().parse_args(argv)
    given = {"model": args.model, "scale": args.scale, **dict(args.parameter)}
    given = {"interactive": False} | {key: value for key, value in given.items() if value is not None}
    try:
        plans = [(notebook, plan) for notebook in find(args.notebooks) for plan in notebook.plans(args.server, given)]
    except NotebookError as error:
        print(f"labkit run: {error}", file=sys.stderr)
        if args.json:
            print(json.dumps({"ok": False, "error": str(error), "notebooks": []}))
        return 1
    output = args.output.resolve()
    runs = []
    for notebook, plan in plans:
        runs.append(execute(notebook, plan, output, args.timeout))
        if runs[-1].status == "interrupted":
            break
    gallery = build(runs, output / "gallery")
    print(_table(runs) + f"\n\nExecuted copies: {output}\nPictures: {gallery}", file=sys.stderr if args.json else sys.stdout)
    ok = all(run.status == "passed" for run in runs)
    if args.json:
        print(json.dumps({"ok": ok, "gallery": str(gallery), "notebooks": [asdict(run) | {"name": run.name} for run in runs]}, default=str))
    return 130 if runs[-1].status == "interrupted" else 0 if ok else 1


def _table(runs: list[Any]) -> str:
    rows = [("notebook", "result", "time", "pictures", "exercises open")]
    for run in runs:
        still_open = run.outcomes.get("exercise", {}).get("open", 0)
        rows.append((run.name, run.status, f"{run.seconds:g} s", str(run.pictures), str(still_open)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    for run in runs:
        if run.error:
            lines.append(f"{run.name}{f', cell {run.cell}' if run.cell else ''}: {run.error}")
    return "\n".join(lines)


def parser() -> argparse.ArgumentParser:
    parse = argparse.ArgumentParser(prog="labkit run", description="Execute notebooks with papermill; results go below build/.")
    parse.add_argument("notebooks", nargs="*", help="numbers (00 02), names or paths; default: all")
    parse.add_argument("--server", type=lambda text: text.split(","), default=["glassbox", "vllm"], metavar="NAME[,NAME]",
                       help="run each notebook with each of these that it is about (default: glassbox,vllm)")
    parse.add_argument("--model", help="passed to notebooks that have this parameter")
    parse.add_argument("--scale", help="passed to notebooks that have this parameter")
    parse.add_argument("-p", "--parameter", type=_parameter, action="append", default=[], metavar="NAME=VALUE",
                       help="any other parameter (JSON or text)")
    parse.add_argument("--timeout", type=float, default=600.0, metavar="S",
                       help="for each cell (default: 600; the first start of vLLM installs it)")
    parse.add_argument("--output", type=Path, default=Path("build/notebooks"), metavar="FOLDER")
    parse.add_argument("--json", action="store_true", help="the results as one JSON object on the last line")
    return parse


def _parameter(text: str) -> tuple[str, Any]:
    name, separator, value = text.partition("=")
    if not separator:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value

"""`labkit models`: which models there are, and where."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from labkit.models.registry import ModelError, check, folder, has_weights, shipped
from labkit.models.shapes import Shape, shapes, write_shape


def main(argv: list[str]) -> int:
    """List models, or write a named shape without weights. 0, or 1 with a message."""
    parser = argparse.ArgumentParser(prog="labkit models", description="List the models, or write the shape of one without weights.")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--find", metavar="NAME", help="the folder of this model: a shipped name, a path, or a hub name")
    parser.add_argument("--shape", choices=list(shapes()), help="write configuration and tokenizer of this shape into --out")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(argv)
    if (options.shape is None) != (options.out is None):
        parser.error("--shape and --out go together")
    try:
        if options.shape:
            result = {"shape": options.shape, "folder": str(write_shape(options.shape, options.out))}
        elif options.find:
            result = describe(folder(options.find))
        else:
            models = [{"name": name, **describe(path)} for name, path in [*shipped().items(), *cached()]]
            result = {"models": models, "shapes": {name: shape.parameters for name, shape in shapes().items()}}
    except (ModelError, OSError) as error:
        if options.json:
            print(json.dumps({"error": str(error)}))
        else:
            print(f"labkit models: {error}", file=sys.stderr)
        return 1
    print(json.dumps(result) if options.json else table(result))
    return 0


def describe(path: Path) -> dict:
    """The folder, its architecture, size on disk, context, and whether it has weights."""
    config = json.loads((check(path) / "config.json").read_text())
    return {
        "folder": str(path),
        "architecture": (config.get("architectures") or [config["model_type"]])[0],
        "parameters": parameters(config),
        "context": config.get("max_position_embeddings"),
        "bytes": sum(file.stat().st_size for file in path.iterdir() if file.is_file()),
        "weights": has_weights(path),
    }


def parameters(config: dict) -> int | None:
    """The number of weights, where the configuration is of a shape we know how to count."""
    try:
        return Shape.from_config(config).parameters
    except ValueError:
        return None


def cached() -> list[tuple[str, Path]]:
    """Hub models that were downloaded before and are complete, by name."""
    try:
        from huggingface_hub import scan_cache_dir
        from huggingface_hub.errors import CacheNotFound
    except ImportError:
        return []
    try:
        repositories = scan_cache_dir().repos
    except CacheNotFound:
        return []
    found = []
    for repository in repositories:
        for revision in repository.revisions:
            try:
                found.append((repository.repo_id, check(revision.snapshot_path)))
            except ModelError:
                continue
    return sorted(found)


def table(result: dict) -> str:
    """The result for people."""
    if "models" not in result:
        return result["folder"]
    lines = []
    for model in result["models"]:
        lines.append(f"{model['name']:<12} {(model['parameters'] or 0) / 1e6:>9.1f} M  context {model['context']:>6}  {model['folder']}")
    lines.append("shapes without weights (labkit models --shape NAME --out FOLDER, then --load-format dummy):")
    lines += [f"{name:<12} {count / 1e6:>9.1f} M" for name, count in result["shapes"].items()]
    return "\n".join(lines)

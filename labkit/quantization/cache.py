"""Figures that were worked out before: JSON files below LABKIT_HOME, each named by a digest of all that it depends on."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import labkit
from labkit.environments.home import home


def cached(question: dict[str, Any], model: Path, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The answer to `question` (plain JSON) about the model in a folder: from the cache, or computed now and kept.

    It is worked out anew when the model's files, the code of models and quantization, or torch are others.
    """
    import torch

    whole = {"question": question, "model": fingerprint(model), "code": code(), "torch": torch.__version__}
    digest = hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:24]
    file = home() / "quantization" / f"{digest}.json"
    try:
        return json.loads(file.read_text())
    except (OSError, ValueError):
        answer = json.loads(json.dumps(compute()))  # what comes from the cache and what does not are alike
    file.parent.mkdir(exist_ok=True)
    temporary = file.with_suffix(f".{os.getpid()}")
    temporary.write_text(json.dumps(answer))
    os.replace(temporary, file)
    return answer


def fingerprint(model: Path) -> list[list[Any]]:
    """Names, sizes and times of the files of a model."""
    files = sorted(path for pattern in ("*.json", "*.safetensors") for path in model.glob(pattern))
    return [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in files]


def code() -> str:
    """A digest of the code that figures come from."""
    hasher = hashlib.sha256()
    for package in ("models", "quantization"):
        for path in sorted((Path(labkit.__file__).parent / package).rglob("*.py")):
            hasher.update(path.read_bytes())
    return hasher.hexdigest()

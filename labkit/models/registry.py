"""Where models are: the shipped one, folders, and hub models by name."""

from __future__ import annotations

import json
from pathlib import Path


class ModelError(ValueError):
    """A model that cannot be used; the message names the cause and the remedy."""


def shipped() -> dict[str, Path]:
    """The models that come with the lab, by name."""
    return {"tiny": Path(__file__).parent / "tiny"}


def folder(name: str | Path = "tiny") -> Path:
    """The local folder of a model.

    `name` is a shipped model's name, a path, or a hub name ("owner/model"), which is downloaded on first use.
    Raises ModelError where there is no such model, or its folder lacks what a server needs.
    """
    text = str(name)
    if text in shipped():
        return check(shipped()[text])
    path = Path(name).expanduser()
    if path.exists():
        return check(path.resolve())
    if text.count("/") == 1 and not text.startswith((".", "/", "~")):
        return download(text)
    known = ", ".join(shipped())
    raise ModelError(f"no model {text!r}: give a shipped one ({known}), the path of a folder, or a hub name like Qwen/Qwen3-0.6B")


def check(path: Path) -> Path:
    """`path` itself, if it is a folder with a readable config.json and a tokenizer; otherwise ModelError."""
    if not path.is_dir():
        raise ModelError(f"{path} is a file: give the folder that holds it (with config.json, tokenizer.json and *.safetensors)")
    config = path / "config.json"
    if not config.is_file():
        raise ModelError(f"{path} is no model folder: it has no config.json. Give the folder that transformers' save_pretrained wrote")
    try:
        content = json.loads(config.read_text())
    except ValueError as error:
        raise ModelError(f"{config} is not valid JSON ({error}): copy the model again") from error
    if not isinstance(content, dict) or "model_type" not in content:
        raise ModelError(f"{config} names no model_type: it is no transformers model configuration")
    if not any((path / file).is_file() for file in ("tokenizer.json", "tokenizer.model")):
        raise ModelError(f"{path} has no tokenizer.json: save the tokenizer into the same folder")
    return path


def has_weights(path: Path) -> bool:
    """Whether the folder holds weights; shapes without any are served with `--load-format dummy`."""
    return any(path.glob("*.safetensors")) or any(path.glob("pytorch_model*.bin"))


def download(name: str) -> Path:
    """The folder of hub model `name` in Hugging Face's cache, downloaded if it is not there."""
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise ModelError(f"{name} is a hub name, and huggingface_hub is not installed: pip install huggingface_hub") from error
    patterns = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]
    try:
        return check(Path(snapshot_download(name, allow_patterns=patterns)))
    except ModelError:
        raise
    except Exception as error:
        cause = (str(error).strip().splitlines() or [""])[0]
        raise ModelError(
            f"cannot get {name} from the hub ({type(error).__name__}: {cause}). Check the name and the network; "
            f"without a network give a local folder, or the shipped model 'tiny'"
        ) from error

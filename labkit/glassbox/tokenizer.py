"""A checkpoint's tokenizer and chat template, without transformers."""
from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from labkit.glassbox.model_config import read_json
from labkit.models.registry import ModelError


class Tokenizer:
    """tokenizer.json through the `tokenizers` library, and the chat template that lies beside it."""

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer as Backend

        path = folder / "tokenizer.json"
        if not path.exists():
            raise ModelError(f"{folder} has no tokenizer.json: save the tokenizer into the model's folder")
        try:
            self._backend = Backend.from_file(str(path))
        except Exception as error:  # the library raises plain Exception
            raise ModelError(f"{path} cannot be read: {error}; copy the tokenizer again") from error
        self._config = read_json(folder / "tokenizer_config.json", "") if (folder / "tokenizer_config.json").exists() else {}
        self._template = self._find_template(folder)
        self._compiled = None

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        return self._backend.encode(text, add_special_tokens=add_special_tokens).ids

    def decode(self, token_ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        return self._backend.decode(token_ids, skip_special_tokens=skip_special_tokens)

    def apply_chat_template(self, messages: list[dict[str, Any]], add_generation_prompt: bool = True, **variables: Any) -> str:
        """The prompt of a conversation. Raises `ValueError` where the model has no template, or the template refuses the messages."""
        from jinja2 import TemplateError

        if self._template is None:
            raise ValueError("this model has no chat template (tokenizer_config.json: chat_template); use /v1/completions")
        if self._compiled is None:
            self._compiled = _environment().from_string(self._template)
        special = {name: _token_text(self._config.get(name)) for name in ("bos_token", "eos_token", "pad_token", "unk_token")}
        special = {name: text for name, text in special.items() if text is not None}
        try:
            return self._compiled.render(messages=messages, add_generation_prompt=add_generation_prompt, **special, **variables)
        except (TemplateError, TypeError, KeyError) as error:
            raise ValueError(f"the chat template refuses these messages: {error}") from error

    def _find_template(self, folder: Path) -> str | None:
        if (folder / "chat_template.jinja").exists():
            return (folder / "chat_template.jinja").read_text(encoding="utf-8")
        template = self._config.get("chat_template")
        if isinstance(template, list):  # several by name
            template = {entry["name"]: entry["template"] for entry in template}.get("default")
        return template


def _token_text(entry: Any) -> str | None:
    return entry.get("content") if isinstance(entry, dict) else entry


def _environment():
    """Templates come with models, from anywhere: sandboxed, with the helpers that transformers gives them."""
    from jinja2 import TemplateError
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = lambda pattern: datetime.now().strftime(pattern)
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "sort_keys": False}
    return environment

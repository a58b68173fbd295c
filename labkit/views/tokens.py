"""`Vocabulary`: token ids as the short texts that a card shows."""
from __future__ import annotations

from functools import cached_property
from pathlib import Path

VISIBLE = str.maketrans({"\n": "↵", "\t": "⇥", " ": "␣"})


class Vocabulary:
    """The tokenizer of a run's model, loaded when first asked. Where it is not on this machine ids stand for themselves."""

    def __init__(self, model: str | Path):
        self.model = str(model)

    @cached_property
    def _tokenizer(self):
        from tokenizers import Tokenizer

        from labkit.models import folder

        names = [self.model] if Path(self.model).exists() or "/" not in self.model else []  # a hub name would be downloaded
        for name in [*names, Path(self.model).name]:
            try:
                return Tokenizer.from_file(str(folder(name) / "tokenizer.json"))
            except Exception:  # tokenizers raises bare Exception for a file it cannot read
                continue
        return None

    def text(self, token_id: int) -> str:
        """One token, its leading space left out, blanks made visible."""
        if self._tokenizer is None:
            return f"#{token_id}"
        text = self._tokenizer.decode([token_id], skip_special_tokens=False)
        if not text or "\N{REPLACEMENT CHARACTER}" in text:  # part of a character
            return self._tokenizer.id_to_token(token_id) or f"#{token_id}"
        return (text.removeprefix(" ") or text).translate(VISIBLE) if text.strip(" ") != "" else text.translate(VISIBLE)

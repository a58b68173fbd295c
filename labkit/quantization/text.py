"""Text to calibrate on: the model's own. The lab's model gets documents of the kind it was trained on, any other model writes some
itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from labkit.quantization.errors import QuantizationError

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerBase

ROWS, LENGTH = 64, 256


@dataclass(slots=True)
class CalibrationText:
    """Rows of token ids, and where they are from."""

    ids: Tensor  # int64 [rows, length]
    source: str
    seed: int

    @property
    def tokens(self) -> int:
        return self.ids.numel()


def calibration_text(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, rows: int = ROWS, length: int = LENGTH, seed: int = 0, file: Path | None = None
) -> CalibrationText:
    """`rows` of `length` tokens each: from `file` if one is given, else the model's own text. The same seed gives the same rows.

    A model with the lab's tokenizer gets seeded documents of its training's kinds, from seeds that measures never use. Any other model is
    sampled, as in "LLM-QAT: Data-Free Quantization Aware Training" (Liu et al., 2023, arXiv:2305.17888).
    Raises QuantizationError where there is too little text.
    """
    import torch

    from labkit.models.tokenizer import BOS

    if rows < 1 or length < 16:
        raise QuantizationError(f"{rows} rows of {length} tokens are too small a calibration set: take {ROWS} of {LENGTH}")
    if file is not None:
        return CalibrationText(from_file(file, tokenizer, rows, length), file.name, seed)
    if tokenizer.bos_token == BOS:
        from labkit.models.batches import row

        ids = [row(tokenizer.backend_tokenizer, f"calibration/{seed}/{n}", length - 1) for n in range(rows)]
        return CalibrationText(torch.tensor(ids), "the lab's corpus", seed)
    return CalibrationText(sample(model, tokenizer, rows, length, seed), "sampled from the model", seed)


def from_file(file: Path, tokenizer: PreTrainedTokenizerBase, rows: int, length: int) -> Tensor:
    """The first rows of a text file."""
    import torch

    try:
        ids = tokenizer(file.read_text()).input_ids
    except (OSError, UnicodeDecodeError) as error:
        raise QuantizationError(f"{file} cannot be read as text ({error}): give a text file, or none for the model's own") from error
    if len(ids) < rows * length:
        raise QuantizationError(
            f"{file} is too small a calibration set: it has {len(ids)} tokens, {rows} rows of {length} need {rows * length}. "
            f"Give more text, or ask for {max(1, len(ids) // length)} rows"
        )
    return torch.tensor(ids[: rows * length]).view(rows, length)


def sample(model: nn.Module, tokenizer: PreTrainedTokenizerBase, rows: int, length: int, seed: int, batch: int = 16) -> Tensor:
    """Rows that the model writes by itself, at temperature 1."""
    import torch

    begin = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    device = next(model.parameters()).device
    found = []
    with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.inference_mode():
        torch.manual_seed(seed)
        for start in range(0, rows, batch):
            prompt = torch.full((min(batch, rows - start), 1), begin, device=device)
            words = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0, "pad_token_id": begin}
            words |= {"min_new_tokens": length - 1, "max_new_tokens": length - 1, "attention_mask": torch.ones_like(prompt)}
            found.append(model.generate(prompt, **words).cpu())
    return torch.cat(found)

"""One quantized model measured in every way: what it costs and what it buys. Seeded, and kept in the cache."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from labkit.models.measure import Ruler, copy_by_length, perplexity, recall_among_keys, recall_by_distance
from labkit.models.registry import folder
from labkit.quantization.cache import cached
from labkit.quantization.model import Progress, bytes_in_all, quantize_model
from labkit.quantization.quality import divergence, reference, splits, summary
from labkit.quantization.text import LENGTH, ROWS, calibration_text


def measure(
    model: str | Path = "tiny",
    method: str | None = None,
    bits: int | None = None,
    group_size: int | None = None,
    *,
    documents: int = 60,
    cases: int = 10,
    prompts: int = 20,
    tokens: int = 64,
    seed: int = 1,
    rows: int = ROWS,
    progress: Progress = lambda what, share: None,
    **options: Any,
) -> dict[str, Any]:
    """Figures of `model` quantized by `method` (None: as it is, in float32), beside those that its float32 original sets.

    documents: held-out ones of 256 tokens for perplexity and divergence; cases: of recall and copying for each distance or length;
    prompts: with `tokens` greedy tokens each, for the first difference; rows: of calibration. options: of the method. Bytes count
    unpacked numbers in 16 bits.
    """
    path = folder(model)
    question = {"method": method, "bits": bits, "group_size": group_size, "options": {name: str(value) for name, value in options.items()}}
    question |= {"documents": documents, "cases": cases, "prompts": prompts, "tokens": tokens, "seed": seed, "rows": rows}
    return cached(question, path, lambda: question | figures(path, question, options, progress))


def figures(path: Path, size: dict[str, Any], options: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """All figures, worked out. size: what `measure` was asked."""
    ruler = Ruler(path)
    progress("the original speaks", 0.0)
    wanted = reference(ruler, size["documents"], size["prompts"], size["tokens"], size["seed"])
    found: dict[str, Any] = {"original_bytes": bytes_in_all(ruler.model)}
    result = None
    if size["method"] is not None:
        text = calibration_text(ruler.model, ruler.tokenizer, size["rows"], LENGTH)
        begin = time.monotonic()
        words = {"ids": text.ids, "progress": lambda what, share: progress(what, 0.1 + 0.5 * share), "errors": True, **options}
        result = quantize_model(ruler.model, size["method"], size["bits"], size["group_size"], **words)
        found |= {"quantize_seconds": round(time.monotonic() - begin, 2), "calibration": text.source}
        found |= {"bits_per_weight": round(result.bits_per_weight, 4), "linear_bytes": result.nbytes}
        found["layers"] = {name: error.summary() for name, error in result.errors.items()}
        found["outliers"] = {name: {"share": loud.share, "spread": loud.spread} for name, loud in result.outliers.items()}
    found["bytes"] = bytes_in_all(ruler.model, result)
    progress("perplexity", 0.6)
    found["perplexity"] = perplexity(ruler, 256, size["documents"], size["seed"])
    found |= divergence(ruler, wanted)
    progress("first differences", 0.75)
    found["continuations"] = summary(splits(ruler, wanted), size["prompts"], size["tokens"])
    progress("recall and copying", 0.8)
    found["recall_by_distance"] = recall_by_distance(ruler, size["cases"], size["seed"])
    found["recall_among_keys"] = recall_among_keys(ruler, size["cases"], size["seed"])
    found["copy_by_words"] = copy_by_length(ruler, size["cases"], size["seed"])
    progress("measured", 1.0)
    return found

"""One quantized model measured in every way: what it costs and what it buys. Seeded, and kept in the cache."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from labkit.models.measure import COPIES, DISTANCES, KEYS, Ruler, copy_by_length, perplexity, recall_among_keys, recall_by_distance
from labkit.models.registry import folder
from labkit.quantization.cache import cached
from labkit.quantization.model import Progress, bytes_in_all, quantize_model
from labkit.quantization.quality import Reference, divergence, reference, splits, summary
from labkit.quantization.text import LENGTH, ROWS, calibration_text


@dataclass(frozen=True, slots=True)
class Sample:
    """How much of a model is looked at."""

    documents: int = 60  # held-out ones of 256 tokens, for perplexity
    compared: int = 30  # others, token by token with the original's distributions
    cases: int = 10  # of recall and copying, for each distance, number of keys and number of words
    prompts: int = 20  # with `tokens` greedy tokens each, for the first difference
    tokens: int = 64
    seed: int = 1
    distances: tuple[int, ...] = DISTANCES
    keys: tuple[int, ...] = KEYS
    words: tuple[int, ...] = COPIES

    def reference(self, ruler: Ruler) -> Reference:
        """What the original says to it."""
        return reference(ruler, self.compared, self.prompts, self.tokens, self.seed)


def measure(
    model: str | Path = "tiny",
    method: str | None = None,
    bits: int | None = None,
    group_size: int | None = None,
    *,
    sample: Sample = Sample(),
    rows: int = ROWS,
    progress: Progress = lambda what, share: None,
    **options: Any,
) -> dict[str, Any]:
    """Figures of `model` quantized by `method` (None: as it is, in float32), beside those that its float32 original sets.

    rows: of calibration. options: of the method. Bytes count unpacked numbers in 16 bits.
    """
    path = folder(model)
    question = {"method": method, "bits": bits, "group_size": group_size, "options": {name: str(value) for name, value in options.items()}}
    question |= {"sample": asdict(sample), "rows": rows}
    return cached(question, path, lambda: question | figures(path, question, sample, options, progress))


def figures(path: Path, wish: dict[str, Any], sample: Sample, options: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """All figures, worked out. wish: what `measure` was asked."""
    ruler = Ruler(path)
    progress("the original speaks", 0.0)
    wanted = sample.reference(ruler)
    found: dict[str, Any] = {"original_bytes": bytes_in_all(ruler.model)}
    result = None
    if wish["method"] is not None:
        text = calibration_text(ruler.model, ruler.tokenizer, wish["rows"], LENGTH)
        begin = time.monotonic()
        words = {"ids": text.ids, "progress": lambda what, share: progress(what, 0.1 + 0.5 * share), "errors": True, **options}
        result = quantize_model(ruler.model, wish["method"], wish["bits"], wish["group_size"], **words)
        found |= {"quantize_seconds": round(time.monotonic() - begin, 2), "calibration": text.source}
        found |= {"bits_per_weight": round(result.bits_per_weight, 4), "linear_bytes": result.nbytes}
        found["layers"] = {name: error.summary() for name, error in result.errors.items()}
        found["outliers"] = {name: {"share": loud.share, "spread": loud.spread} for name, loud in result.outliers.items()}
    found["bytes"] = bytes_in_all(ruler.model, result)
    return found | judge(ruler, wanted, sample, lambda what, share: progress(what, 0.6 + 0.4 * share))


def judge(ruler: Ruler, wanted: Reference, sample: Sample, progress: Progress = lambda what, share: None) -> dict[str, Any]:
    """What the model says now, beside what was `wanted`; `sample` is what that was taken on."""
    progress("perplexity", 0.0)
    found: dict[str, Any] = {"perplexity": perplexity(ruler, 256, sample.documents, sample.seed)}
    found |= divergence(ruler, wanted)
    progress("first differences", 0.4)
    found["continuations"] = summary(splits(ruler, wanted), sample.prompts, sample.tokens)
    progress("recall and copying", 0.5)
    found["recall_by_distance"] = recall_by_distance(ruler, sample.cases, sample.seed, sample.distances)
    found["recall_among_keys"] = recall_among_keys(ruler, sample.cases, sample.seed, sample.keys)
    found["copy_by_words"] = copy_by_length(ruler, sample.cases, sample.seed, sample.words)
    progress("measured", 1.0)
    return found

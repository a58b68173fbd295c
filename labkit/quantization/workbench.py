"""`Workbench`: a model whose layers are quantized one at a time, to look at; calibrated once, whatever is tried on it afterwards."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from labkit.models.registry import folder
from labkit.quantization.calibration import Statistics, Stream, collect, decoder_layers, linears, sensitivities
from labkit.quantization.error import LayerError, Outliers, layer_error, outliers
from labkit.quantization.errors import check_choice
from labkit.quantization.methods import method
from labkit.quantization.model import quantize_model
from labkit.quantization.packed import Packed
from labkit.quantization.text import LENGTH, calibration_text

if TYPE_CHECKING:
    from labkit.models.measure import Ruler

OBSERVED = ("second_moment", "input_mean", "input_peak")
GRADIENT_ROWS = 8  # of the calibration text, for the sensitivity of weights
KEPT = 512  # looks


@dataclass(slots=True)
class Look:
    """One layer, quantized one way."""

    layer: str
    method: str
    bits: int
    group_size: int | None  # None for a method without groups of a size to choose
    shared: int  # weights next to each other in a row that share a scale
    weight: Tensor  # float32 [outputs, inputs]
    packed: Packed
    quantized: Tensor  # float32 [outputs, inputs]
    error: LayerError
    outliers: Outliers
    input_peak: Tensor  # float32 [inputs]: greatest |x| of each input feature in the calibration


class Workbench:
    """Layers are quantized by themselves, on what the *original* layers before them give: an error belongs to its layer alone.
    (`quantize_model` calibrates each layer on what the quantized ones before it give, and folds AWQ's and SmoothQuant's scales away.)

    May be used from several threads.
    """

    def __init__(self, model: str | Path = "tiny", rows: int = 8, seed: int = 0):
        """model: a shipped model, a folder, or a hub name. rows: of calibration text, 256 tokens each. Raises ModelError."""
        self.folder, self.rows, self.seed = folder(model), rows, seed
        self._lock = threading.RLock()
        self.look = lru_cache(KEPT)(self._look)

    @cached_property
    def ruler(self) -> Ruler:
        """The original model, in float32, with its tokenizer."""
        from labkit.models.measure import Ruler

        return Ruler(self.folder)

    @cached_property
    def _targets(self) -> dict[str, torch.nn.Linear]:
        return linears(decoder_layers(self.ruler.model), "layers.")

    @property
    def layers(self) -> list[str]:
        """The linear layers, as `layers.0.self_attn.q_proj`."""
        return list(self._targets)

    def weight(self, layer: str) -> Tensor:
        """float32 [outputs, inputs]. Raises QuantizationError for a layer that there is not."""
        check_choice("layer", layer, self._targets)
        return self._targets[layer].weight.detach()

    @cached_property
    def _text(self) -> Tensor:
        return calibration_text(self.ruler.model, self.ruler.tokenizer, self.rows, LENGTH, self.seed).ids

    @cached_property
    def _observed(self) -> dict[str, Statistics]:
        stream, found = Stream(self.ruler.model, self._text), {}
        for number, layer in enumerate(decoder_layers(self.ruler.model)):
            found |= collect(linears(layer, f"layers.{number}."), lambda layer=layer: stream.run(layer), OBSERVED)
            stream.advance(layer)
        return found

    @cached_property
    def _sensitivities(self) -> dict[str, Tensor]:
        return sensitivities(self.ruler.model, self._targets, self._text[:GRADIENT_ROWS])

    def statistics(self, layer: str, sensitivity: bool = False) -> Statistics:
        """What the layer's inputs are like in the original model; `sensitivity` of its weights too, which takes a backward pass."""
        with self._lock:
            found = self._observed[layer]
            return replace(found, sensitivity=self._sensitivities[layer]) if sensitivity else found

    def pack(self, layer: str, name: str, bits: int | None = None, group_size: int | None = None) -> Packed:
        """The layer packed by the method `name`. Raises QuantizationError for what is not possible."""
        chosen, weight = method(name), self.weight(layer)
        arguments: dict[str, Any] = chosen.check(bits, group_size)
        found = self.statistics(layer, "sensitivity" in chosen.needs) if chosen.calibrates else Statistics()
        needs = dict.fromkeys(chosen.calibrates)  # a layer that stands alone keeps the scale that a model would fold away
        return chosen.quantize(weight, **{need: getattr(found, need) for need in needs}, **arguments)

    def _look(self, layer: str, name: str, bits: int | None = None, group_size: int | None = None) -> Look:
        """The same, beside the original, with errors; kept, so that it is there at once the next time."""
        packed = self.pack(layer, name, bits, group_size)
        found, weight = self.statistics(layer), self.weight(layer)
        chosen = method(name).check(bits, group_size)
        error, loud = layer_error(weight, packed, found.second_moment), outliers(found.input_peak)
        bits = chosen.get("bits", method(name).bits[0])
        shared = getattr(packed, "group_size", getattr(packed, "block_size", weight.shape[1]))
        shared = weight.shape[1] if weight.shape[1] % shared else shared
        return Look(layer, name, bits, chosen.get("group_size"), shared, weight, packed, packed.dequantize(), error, loud, found.input_peak)

    def quantized(self, name: str, bits: int | None = None, group_size: int | None = None) -> Ruler:
        """The whole model quantized, as `labkit quantize` does it. Raises QuantizationError."""
        from labkit.models.measure import Ruler

        ruler = Ruler(self.folder)
        quantize_model(ruler.model, name, bits, group_size, self._text if method(name).calibrates else None)
        return ruler

"""What a layer's inputs are like, found by running text through the model with a hook on every linear layer.

The text goes through one decoder layer at a time. So a layer is calibrated on what the layers before it give *after* they were quantized,
as in GPTQ (arXiv:2210.17323, section 4), and no more than one layer's statistics are in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labkit.quantization.errors import QuantizationError

BATCH = 16  # rows at once


@dataclass(slots=True)
class Statistics:
    """Of the inputs x of one linear layer, over all tokens; None for what was not asked for."""

    tokens: int = 0
    second_moment: Tensor | None = None  # [inputs, inputs]: mean of x x^T
    input_mean: Tensor | None = None  # [inputs]: mean of |x|
    input_peak: Tensor | None = None  # [inputs]: greatest |x|
    sensitivity: Tensor | None = None  # [outputs, inputs]: mean squared gradient of the loss by the weight

    def add(self, x: Tensor, needs: Iterable[str]) -> None:
        """Take in inputs [..., inputs]."""
        rows = x.detach().reshape(-1, x.shape[-1]).float()
        size = rows.abs()
        before, self.tokens = self.tokens, self.tokens + len(rows)
        found = {
            "second_moment": lambda: rows.T @ rows / len(rows),
            "input_mean": lambda: size.mean(0),
            "input_peak": lambda: size.amax(0),
        }
        for need in needs:
            if need not in found:
                continue
            old, new = getattr(self, need), found[need]()
            if old is not None:
                new = torch.maximum(old, new) if need == "input_peak" else old.lerp(new, len(rows) / (before + len(rows)))
            setattr(self, need, new)

    def scaled(self, scale: Tensor) -> Statistics:
        """The same for inputs that are divided by `scale` [inputs]; the sensitivity is left as it is."""
        moment = None if self.second_moment is None else self.second_moment / torch.outer(scale, scale)
        mean, peak = (None if value is None else value / scale for value in (self.input_mean, self.input_peak))
        return Statistics(self.tokens, moment, mean, peak, self.sensitivity)


def linears(module: nn.Module, prefix: str = "") -> dict[str, nn.Linear]:
    """The linear layers of a module, by name."""
    return {f"{prefix}{name}": child for name, child in module.named_modules() if isinstance(child, nn.Linear)}


def collect(layers: dict[str, nn.Linear], run: Callable[[], None], needs: Iterable[str]) -> dict[str, Statistics]:
    """The statistics of each layer's inputs while `run` runs the model. Layers that are fed the same tensor share theirs."""
    needs = tuple(needs)
    leaders: dict[str, str] = {}
    statistics: dict[str, Statistics] = {}
    last: list[tuple[Tensor, str]] = []

    def hook(name: str) -> Callable:
        def note(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            x = arguments[0]
            if name not in leaders:
                leaders[name] = last[0][1] if last and last[0][0] is x else name
                statistics.setdefault(leaders[name], Statistics())
            last[:] = [(x, leaders[name])]
            if leaders[name] == name:
                statistics[name].add(x, needs)

        return note

    handles = [layer.register_forward_pre_hook(hook(name)) for name, layer in layers.items()]
    try:
        with torch.no_grad():
            run()
    finally:
        for handle in handles:
            handle.remove()
    if missing := [name for name in layers if name not in leaders]:
        raise QuantizationError(f"the calibration text never reached {', '.join(missing[:3])}: quantize a decoder that uses all its layers")
    return {name: statistics[leaders[name]] for name in layers}


class Stream:
    """A calibration text on its way through a model: the hidden states in front of one decoder layer, for all batches."""

    def __init__(self, model: nn.Module, ids: Tensor) -> None:
        self.calls: list[tuple[list[Any], dict[str, Any]]] = []
        first = decoder_layers(model)[0]

        def stop(module: nn.Module, arguments: tuple, words: dict) -> None:
            self.calls.append((list(arguments), words))
            raise Reached

        handle = first.register_forward_pre_hook(stop, with_kwargs=True)
        try:
            with torch.no_grad():
                for batch in ids.to(next(model.parameters()).device).split(BATCH):
                    try:
                        forward(model, batch)
                    except Reached:
                        continue
        finally:
            handle.remove()

    def run(self, layer: nn.Module) -> None:
        """Run the layer on all batches, for its hooks only."""
        for arguments, words in self.calls:
            layer(*arguments, **words)

    @torch.no_grad()
    def advance(self, layer: nn.Module) -> None:
        """Go through the layer: what it gives stands in front of the next one."""
        for arguments, words in self.calls:
            hidden = layer(*arguments, **words)
            hidden = hidden[0] if isinstance(hidden, tuple) else hidden
            if arguments:
                arguments[0] = hidden
            else:
                words["hidden_states"] = hidden


class Reached(Exception):
    """The forward pass came to the first decoder layer."""


def decoder_layers(model: nn.Module) -> nn.ModuleList:
    """The decoder layers of transformers' Llama, Mistral and Qwen, and of the lab's own net. Raises QuantizationError for other models."""
    layers = getattr(getattr(model, "model", None), "layers", None)
    if not isinstance(layers, nn.ModuleList) or not all(hasattr(layer, "mlp") and hasattr(layer, "self_attn") for layer in layers):
        raise QuantizationError(f"{type(model).__name__} is not built like a Llama: quantize a Llama, Mistral or Qwen model")
    return layers


def forward(model: nn.Module, ids: Tensor) -> Tensor:
    """Logits [rows, length, vocabulary] of the ids [rows, length]: transformers' model, or the lab's own net."""
    if hasattr(model, "shape"):
        return model(ids, torch.arange(ids.shape[1], device=ids.device).expand(len(ids), -1))
    return model(ids, use_cache=False).logits


def sensitivities(
    model: nn.Module, layers: dict[str, nn.Linear], ids: Tensor, progress: Callable[[int], None] = lambda row: None
) -> dict[str, Tensor]:
    """The mean squared gradient of the next-token loss by each weight: the diagonal of the empirical Fisher information. float32
    [outputs, inputs].

    One backward pass for each of the rows of ids [rows, length].
    """
    device = next(model.parameters()).device
    sums = {name: torch.zeros_like(layer.weight, dtype=torch.float32) for name, layer in layers.items()}
    wanted = [layer.weight for layer in layers.values()]
    before = [weight.requires_grad for weight in wanted]
    try:
        for weight in wanted:
            weight.requires_grad_(True)
        for number, row in enumerate(ids.to(device)):
            with torch.enable_grad():
                logits = forward(model, row[None, :-1])[0]
                gradients = torch.autograd.grad(F.cross_entropy(logits.float(), row[1:]), wanted)
            for total, gradient in zip(sums.values(), gradients, strict=True):
                total += gradient.float() ** 2
            progress(number)
    finally:
        for weight, flag in zip(wanted, before, strict=True):
            weight.requires_grad_(flag)
    return {name: total / len(ids) for name, total in sums.items()}


def check_size(tokens: int, layers: dict[str, nn.Linear], needs: Iterable[str], length: int) -> None:
    """Raises QuantizationError where there are fewer tokens than a layer has inputs: their second moment says nothing of most
    directions."""
    widest = max((layer.in_features for layer in layers.values()), default=0)
    if "second_moment" in needs and tokens < widest:
        raise QuantizationError(
            f"a calibration set of {tokens} tokens is too small for layers of {widest} inputs: give at least {-(-widest // length)} rows "
            f"of {length} tokens, and better ten times as many"
        )


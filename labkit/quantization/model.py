"""A whole model quantized: every linear layer of its decoder, one decoder layer after the other. Embeddings, head and norms stay as they
are."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from labkit.quantization import folding
from labkit.quantization.calibration import Statistics, Stream, check_size, collect, decoder_layers, linears, sensitivities
from labkit.quantization.error import LayerError, Outliers, layer_error, outliers
from labkit.quantization.errors import QuantizationError, check_groups
from labkit.quantization.methods import Method, method
from labkit.quantization.packed import Packed, PackedLinear

Progress = Callable[[str, float], None]
"""What is being done, and the share of all that is done."""
OBSERVED = ("second_moment", "input_peak")  # statistics that errors and outliers are found with


@dataclass(slots=True)
class QuantizedModel:
    """What became of a model. Names are those of its modules and parameters, as in a checkpoint."""

    method: str
    options: dict[str, Any]
    linears: dict[str, Packed]
    changed: dict[str, Tensor] = field(default_factory=dict)  # parameters of other layers that took over a scale
    errors: dict[str, LayerError] = field(default_factory=dict)  # of each linear layer, where asked for
    outliers: dict[str, Outliers] = field(default_factory=dict)  # of their inputs, likewise

    @property
    def nbytes(self) -> int:
        """Bytes of all packed linear layers."""
        return sum(packed.nbytes for packed in self.linears.values())

    @property
    def bits_per_weight(self) -> float:
        """Over all packed linear layers."""
        return 8 * self.nbytes / sum(packed.shape[0] * packed.shape[1] for packed in self.linears.values())


def quantize_model(
    model: nn.Module,
    name: str,
    bits: int | None = None,
    group_size: int | None = None,
    ids: Tensor | None = None,
    progress: Progress = lambda what, share: None,
    errors: bool = False,
    **options: Any,
) -> QuantizedModel:
    """Quantize `model` in place by the method `name`: its linear layers become `PackedLinear`.

    model: transformers' Llama, Mistral or Qwen, or the lab's own net. ids [rows, length]: the calibration text (`text.calibration_text`),
    for methods that need one, and for `errors`: whether to note each layer's error and the outliers of its inputs. options: further
    arguments of the method's `quantize`. Raises QuantizationError before anything is changed.
    """
    chosen = method(name)
    arguments = {**chosen.check(bits, group_size), **options}
    if arguments.get("per", "group") != "group":
        del arguments["group_size"]
    layers = decoder_layers(model)
    prefix = next(path for path, module in model.named_modules() if module is layers)
    targets = {f"{prefix}.{path}": layer for path, layer in linears(layers).items()}
    needs = (*chosen.calibrates, *(OBSERVED if errors else ()))
    check(model, chosen, targets, arguments, needs, ids)
    progress(f"{name}: starting", 0.0)
    sensitive, begun = {}, 0.0
    if "sensitivity" in chosen.calibrates:
        begun = 0.7
        sensitive = sensitivities(model, targets, ids, lambda row: progress("gradients", begun * (row + 1) / len(ids)))
    stream = Stream(model, ids) if set(needs) - {"sensitivity"} else None
    result = QuantizedModel(name, arguments, {})
    for number, layer in enumerate(layers):
        path = f"{prefix}.{number}."
        done = {local: sensitive[path + local] for local in linears(layer)} if sensitive else {}
        quantize_layer(layer, path, chosen, arguments, needs, stream, done, result)
        if stream:
            stream.advance(layer)
        progress(f"layer {number + 1} of {len(layers)}", begun + (1 - begun) * (number + 1) / len(layers))
    return result


@torch.no_grad()
def quantize_layer(
    layer: nn.Module,
    path: str,
    chosen: Method,
    arguments: dict[str, Any],
    needs: Collection[str],
    stream: Stream | None,
    sensitive: dict[str, Tensor],
    result: QuantizedModel,
) -> None:
    """One decoder layer: calibrate, fold scales away, and put a packed layer in the place of each linear one."""
    targets = linears(layer)
    statistics = {name: Statistics(sensitivity=sensitive.get(name)) for name in targets}
    if stream:
        statistics = collect(targets, lambda: stream.run(layer), needs)
        for name in sensitive:
            statistics[name] = replace(statistics[name], sensitivity=sensitive[name])
    if chosen.fold:
        fold(layer, path, chosen, arguments, statistics, result)
    for name, linear in targets.items():
        found = {need: getattr(statistics[name], need) for need in chosen.needs}
        packed = chosen.quantize(linear.weight, **found, **arguments)
        result.linears[path + name] = packed
        if set(OBSERVED) <= set(needs):
            result.errors[path + name] = layer_error(linear.weight, packed, statistics[name].second_moment)
            result.outliers[path + name] = outliers(statistics[name].input_peak)
        parent, _, leaf = name.rpartition(".")
        setattr(layer.get_submodule(parent), leaf, PackedLinear(packed, linear.bias))


def fold(
    layer: nn.Module, path: str, chosen: Method, arguments: dict[str, Any], statistics: dict[str, Statistics], result: QuantizedModel
) -> None:
    """Find the scale of each place where one can be folded, and fold it; `statistics` become those of the scaled inputs."""
    search = chosen.load(chosen.fold.function)
    chosen_options = {name: value for name, value in arguments.items() if name in chosen.fold.options}
    for place in folding.places(layer, chosen.fold.after_linears):
        weights = [layer.get_submodule(name).weight.float() for name in place.targets]
        found = statistics[place.targets[0]]
        scale = search(weights, **{need: getattr(found, need) for need in chosen.fold.needs}, **chosen_options)
        folding.apply(layer, place, scale)
        for name in place.targets:
            statistics[name] = found.scaled(scale)
        source = layer.get_submodule(place.source)
        kept = "bias" if isinstance(source, nn.Linear) else "weight"  # a linear layer's weight is packed later on
        if getattr(source, kept) is not None:
            result.changed[f"{path}{place.source}.{kept}"] = getattr(source, kept).detach().clone()


def check(
    model: nn.Module,
    chosen: Method,
    targets: dict[str, nn.Linear],
    arguments: dict[str, Any],
    needs: Collection[str],
    ids: Tensor | None,
) -> None:
    """Raises QuantizationError for what can be seen to be wrong before anything is changed."""
    settings = getattr(getattr(model, "config", None), "quantization_config", None)
    if settings is not None or any(isinstance(module, PackedLinear) for module in model.modules()):
        raise QuantizationError("this model is already quantized: load the original checkpoint, in float32, bfloat16 or float16")
    if needs and ids is None:
        who = chosen.name if chosen.calibrates else "noting errors"
        raise QuantizationError(f"{who} needs a calibration text: give token ids, from labkit.quantization.text.calibration_text")
    if ids is not None:
        check_size(ids.numel(), targets, needs, ids.shape[1])
    if "group_size" in arguments:
        for name, linear in targets.items():
            try:
                check_groups(linear.in_features, arguments["group_size"])
            except QuantizationError as error:
                raise QuantizationError(f"{name}: {error}") from error


def bytes_in_all(model: nn.Module, result: QuantizedModel | None = None, width: int = 2) -> int:
    """Bytes of the whole model: packed layers as they are, everything else at `width` bytes a number, tied weights once."""
    parameters: Iterable[Tensor] = {id(parameter): parameter for parameter in model.parameters()}.values()
    return (result.nbytes if result else 0) + width * sum(parameter.numel() for parameter in parameters)

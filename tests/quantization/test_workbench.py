"""Layers on the workbench are quantized by the library's methods, on statistics of the model as it is."""

from __future__ import annotations

import pytest
import torch

from labkit.quantization.errors import QuantizationError
from labkit.quantization.methods import METHODS
from labkit.quantization.workbench import Workbench

LAYER = "layers.3.mlp.down_proj"


@pytest.fixture(scope="module")
def bench():
    return Workbench(rows=4)


def test_the_statistics_are_those_of_the_layers_inputs_in_the_original_model(bench):
    seen = []
    target = bench.ruler.model.model.get_submodule(LAYER)
    handle = target.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0]))
    with torch.no_grad():
        bench.ruler.model(bench._text)
    handle.remove()
    x = seen[0].reshape(-1, target.in_features)
    found = bench.statistics(LAYER)
    assert torch.allclose(found.input_peak, x.abs().amax(0), rtol=1e-4) and torch.allclose(
        found.second_moment, x.T @ x / len(x), rtol=1e-2, atol=1e-4
    )


@pytest.mark.parametrize("name", METHODS)
def test_every_method_can_be_looked_at_and_says_what_it_lost(bench, name):
    look = bench.look(LAYER, name)
    assert look.bits == METHODS[name].bits[0] and look.shared <= look.weight.shape[1]
    assert torch.equal(look.quantized, look.packed.dequantize())
    relative = ((look.quantized - look.weight).norm() / look.weight.norm()).item()
    assert look.error.weight == pytest.approx(relative, rel=1e-3) and 0 < look.error.output < 0.2


def test_methods_that_know_the_inputs_beat_rounding_where_a_feature_is_loud(bench):
    plain = bench.look(LAYER, "rtn", 3).error.output
    assert all(bench.look(LAYER, name, 3).error.output < plain for name in ("gptq", "awq", "squeezellm"))
    assert bench.look(LAYER, "rtn", 3).outliers.features[0] == int(bench.statistics(LAYER).input_peak.argmax())


def test_what_is_not_there_is_named(bench):
    with pytest.raises(QuantizationError, match="no layer 'layers.3.mlp.down'.*Did you mean 'layers.3.mlp.down_proj'"):
        bench.look("layers.3.mlp.down", "rtn")
    with pytest.raises(QuantizationError, match="made for 4 bits"):
        bench.look(LAYER, "nf4", 3)


def test_a_quantized_model_leaves_the_original_as_it_is(bench):
    before = bench.weight(LAYER).clone()
    quantized = bench.quantized("rtn", 4)
    assert torch.equal(bench.weight(LAYER), before)
    packed = quantized.model.model.get_submodule(LAYER).packed
    assert torch.equal(packed.dequantize(), bench.look(LAYER, "rtn", 4).quantized), "rounding needs no calibration: the same weights"

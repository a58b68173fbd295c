"""Whole models, quantized."""

from __future__ import annotations

import copy

import pytest
import torch

from labkit.bench.examples import llama
from labkit.quantization import folding, round_to_nearest
from labkit.quantization.calibration import decoder_layers, forward, linears
from labkit.quantization.errors import QuantizationError
from labkit.quantization.methods import METHODS
from labkit.quantization.model import bytes_in_all, quantize_model
from labkit.quantization.packed import PackedLinear


def divergence(model, other, ids) -> float:
    """Mean KL of the next token's distribution."""
    with torch.no_grad():
        ours, theirs = forward(model, ids).log_softmax(-1), forward(other, ids).log_softmax(-1)
    return (ours.exp() * (ours - theirs)).sum(-1).mean().item()


@pytest.mark.parametrize("name", METHODS)
def test_every_linear_layer_is_packed_and_the_model_still_says_much_the_same(name, ids):
    model = llama()
    original = copy.deepcopy(model)
    steps = []
    group_size = 32 if METHODS[name].takes_groups else None
    found = quantize_model(model, name, None, group_size, ids, lambda *step: steps.append(step))
    assert set(found.linears) == {f"model.layers.{path}" for path in linears(original.model.layers)}
    assert not linears(model.model.layers)
    assert all(model.get_submodule(path).packed is packed for path, packed in found.linears.items())
    shares = [share for _, share in steps]
    assert shares == sorted(shares) and shares[-1] == 1.0
    assert divergence(original, model, ids) < 0.2
    rest = sum(parameter.numel() for name, parameter in original.named_parameters() if "proj" not in name)
    assert bytes_in_all(model, found) == sum(packed.nbytes for packed in found.linears.values()) + 2 * rest


def test_calibrated_methods_stay_closer_to_the_model_than_round_to_nearest(ids):
    original = llama()
    lost = {}
    for name in ("rtn", "gptq", "awq", "squeezellm"):
        model = copy.deepcopy(original)
        quantize_model(model, name, 3, 32 if name != "squeezellm" else None, ids)
        lost[name] = divergence(original, model, ids)
    assert max(lost["gptq"], lost["awq"], lost["squeezellm"]) < lost["rtn"]


@pytest.mark.parametrize(("kv_heads", "architecture"), [(4, "Llama"), (2, "Llama"), (4, "Qwen2"), (2, "Qwen3")])
def test_folding_a_scale_changes_nothing_that_the_model_says(kv_heads, architecture, ids):
    model = llama(kv_heads, architecture)
    with torch.no_grad():
        before = forward(model, ids)
        for layer in decoder_layers(model):
            places = list(folding.places(layer, after_linears=True))
            assert len(places) == (4 if kv_heads == 4 else 3)
            for place in places:
                width = layer.get_submodule(place.targets[0]).in_features
                folding.apply(layer, place, torch.rand(width, generator=torch.Generator().manual_seed(0)) + 0.5)
        assert (forward(model, ids) - before).norm() < 2e-3 * before.norm()  # a norm's weight is rounded to float16


@pytest.mark.parametrize("name", ["awq", "smoothquant"])
def test_folded_scales_are_in_the_norms_and_in_no_layer_of_their_own(name, ids):
    model = llama()
    found = quantize_model(model, name, ids=ids, **({"group_size": 32} if name == "awq" else {}))
    assert all(packed.input_scale is None for packed in found.linears.values())
    assert set(found.changed) == {f"model.layers.{n}.{norm}.weight" for n in (0, 1) for norm, _ in folding.AFTER_NORMS}
    for path, weight in found.changed.items():
        assert torch.equal(model.get_parameter(path), weight)
        assert torch.equal(weight, weight.half().float())


def test_options_reach_the_method(ids):
    found = quantize_model(llama(), "rtn", 3, 16, symmetric=False)
    weight = llama().model.layers[0].mlp.up_proj.weight
    assert torch.equal(
        found.linears["model.layers.0.mlp.up_proj"].dequantize(), round_to_nearest.quantize(weight, 3, "group", 16, False).dequantize()
    )
    assert found.options == {"bits": 3, "group_size": 16, "symmetric": False}
    per_channel = quantize_model(llama(), "awq", 4, ids=ids, per="channel")
    assert per_channel.linears["model.layers.0.mlp.up_proj"].scales.shape == (96, 1)


def test_a_bias_stays(ids):
    model = llama(4, "Qwen2")
    torch.nn.init.normal_(model.model.layers[0].self_attn.q_proj.bias)
    bias = model.model.layers[0].self_attn.q_proj.bias.clone()
    quantize_model(model, "fp8")
    layer = model.model.layers[0].self_attn.q_proj
    assert isinstance(layer, PackedLinear)
    assert torch.equal(layer.bias, bias)
    assert torch.equal(layer(torch.zeros(1, 64))[0], bias)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"name": "gtpq"}, "no quantization method 'gtpq': there are rtn, gptq, .* Did you mean 'gptq'"),
        ({"name": "rtn", "bits": 9}, "9 bits are not possible here: take 2 to 8"),
        ({"name": "nf4", "bits": 8}, "nf4 is made for 4 bits, not 8"),
        ({"name": "fp8", "group_size": 32}, "fp8 has no groups"),
        ({"name": "rtn", "group_size": 64}, r"model.layers.0.mlp.down_proj: 96 inputs do not divide into groups of 64: take .*32.*48"),
        ({"name": "gptq", "group_size": 32}, "gptq needs a calibration text: give token ids"),
        ({"name": "gptq", "group_size": 32, "ids": torch.ones(1, 90).long()}, "90 tokens is too small .* 96 inputs: give at least 2 rows"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused_before_anything_is_changed(words, said):
    model = llama()
    with pytest.raises(QuantizationError, match=said):
        quantize_model(model, **words)
    assert len(linears(model.model.layers)) == 14


def test_a_quantized_model_is_not_quantized_again():
    model = llama()
    quantize_model(model, "fp8")
    with pytest.raises(QuantizationError, match="already quantized: load the original checkpoint"):
        quantize_model(model, "fp8")
    checkpoint = llama()
    checkpoint.config.quantization_config = {"quant_method": "awq"}
    with pytest.raises(QuantizationError, match="already quantized"):
        quantize_model(checkpoint, "fp8")

"""What calibration finds in a model, and the text it runs through it."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

from labkit.bench.examples import llama
from labkit.quantization.calibration import Statistics, Stream, collect, decoder_layers, forward, linears, sensitivities
from labkit.quantization.errors import QuantizationError
from labkit.quantization.text import calibration_text

NEEDS = ("second_moment", "input_mean", "input_peak")


def test_a_hook_sees_what_each_linear_layer_is_fed(ids, monkeypatch):
    monkeypatch.setattr("labkit.quantization.calibration.BATCH", 5)  # the last batch is smaller than the others
    model = llama()
    seen: dict[str, list[torch.Tensor]] = {}
    layers = linears(decoder_layers(model)[0])
    handles = [
        layer.register_forward_pre_hook(lambda module, given, name=name: seen.setdefault(name, []).append(given[0]))
        for name, layer in layers.items()
    ]
    forward(model, ids)
    for handle in handles:
        handle.remove()
    stream = Stream(model, ids)
    found = collect(layers, lambda: stream.run(decoder_layers(model)[0]), NEEDS)
    assert set(found) == set(layers)
    for name, statistics in found.items():
        x = torch.cat(seen[name]).flatten(0, 1)
        assert statistics.tokens == ids.numel() == len(x)
        torch.testing.assert_close(statistics.second_moment, x.T @ x / len(x), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(statistics.input_mean, x.abs().mean(0))
        torch.testing.assert_close(statistics.input_peak, x.abs().amax(0))
    assert found["self_attn.q_proj"] is found["self_attn.v_proj"]
    assert found["self_attn.o_proj"] is not found["self_attn.v_proj"]


def test_a_layer_is_fed_what_the_quantized_layers_before_it_give(ids):
    model = llama()
    first, second = decoder_layers(model)
    stream = Stream(model, ids)
    with torch.no_grad():
        first.mlp.down_proj.weight.zero_()  # as quantizing it to nothing would
    stream.advance(first)
    found = collect(linears(second), lambda: stream.run(second), NEEDS)
    whole = collect(linears(second), lambda: forward(model, ids), NEEDS)
    torch.testing.assert_close(found["mlp.up_proj"].second_moment, whole["mlp.up_proj"].second_moment, rtol=1e-4, atol=1e-5)


def test_the_labs_own_net_streams_like_transformers(ids, tmp_path):
    from labkit.models.net import Net
    from labkit.models.shapes import Shape

    theirs = llama()
    net = Net(Shape(384, 64, 2, 4, 2, 16, 96, 128, rms_norm_eps=theirs.config.rms_norm_eps))
    net.load_state_dict({name: value for name, value in theirs.state_dict().items() if "lm_head" not in name})
    found = []
    for model in (theirs, net):
        stream = Stream(model, ids)
        stream.advance(decoder_layers(model)[0])
        found.append(collect(linears(decoder_layers(model)[1]), lambda: stream.run(decoder_layers(model)[1]), NEEDS))  # noqa: B023
    for name in found[0]:
        torch.testing.assert_close(found[0][name].second_moment, found[1][name].second_moment, rtol=1e-3, atol=1e-4)


def test_statistics_of_scaled_inputs_are_those_of_the_inputs_divided_by_the_scale():
    x, scale = torch.randn(50, 8), torch.rand(8) + 0.5
    plain, divided = Statistics(), Statistics()
    plain.add(x, NEEDS)
    divided.add(x / scale, NEEDS)
    for need in NEEDS:
        torch.testing.assert_close(getattr(plain.scaled(scale), need), getattr(divided, need))


def test_the_sensitivity_is_the_mean_square_of_the_losss_slope(ids):
    model = llama()
    layers = linears(decoder_layers(model)[1])
    found = sensitivities(model, layers, ids[:3])["mlp.up_proj"]
    weight = layers["mlp.up_proj"].weight
    for place in [divmod(index, 64) for index in found.flatten().topk(3).indices.tolist()]:
        slopes = []
        for row in ids[:3]:
            losses = []
            for step in (1e-3, -1e-3):
                with torch.no_grad():
                    weight[place] += step
                    losses.append(F.cross_entropy(forward(model, row[None, :-1])[0], row[1:]).item())
                    weight[place] -= step
            slopes.append((losses[0] - losses[1]) / 2e-3)
        assert found[place].item() == pytest.approx(sum(slope**2 for slope in slopes) / 3, rel=0.05)
    assert not any(parameter.grad is not None for parameter in model.parameters())


def test_calibration_text_is_the_labs_own_seeded_and_apart_from_what_is_measured():
    from transformers import AutoTokenizer

    from labkit.models import folder

    tokenizer = AutoTokenizer.from_pretrained(folder("tiny"))
    one, same, other = (calibration_text(None, tokenizer, 2, 64, seed) for seed in (0, 0, 1))
    assert torch.equal(one.ids, same.ids) and not torch.equal(one.ids, other.ids)
    assert one.ids.shape == (2, 64) and one.tokens == 128
    assert one.source == "the lab's corpus"
    assert one.ids[0, 0] == tokenizer.bos_token_id


def test_another_model_writes_its_calibration_text_itself(tmp_path):
    class Foreign:
        bos_token, bos_token_id = "<s>", 1

    model = llama()
    one, same, other = (calibration_text(model, Foreign, 3, 20, seed) for seed in (0, 0, 1))
    assert one.source == "sampled from the model"
    assert one.ids.shape == (3, 20) and (one.ids[:, 0] == 1).all()
    assert torch.equal(one.ids, same.ids) and not torch.equal(one.ids, other.ids)


def test_text_from_a_file_is_taken_and_too_little_is_refused(tmp_path):
    from transformers import AutoTokenizer

    from labkit.models import folder

    tokenizer = AutoTokenizer.from_pretrained(folder("tiny"))
    file = tmp_path / "mine.txt"
    file.write_text("The fox went to the river. " * 40)
    text = calibration_text(None, tokenizer, 4, 32, file=file)
    assert text.source == "mine.txt" and tokenizer.decode(text.ids[0]).startswith("<|begin|>The fox")
    with pytest.raises(QuantizationError, match="too small a calibration set: it has .* or ask for"):
        calibration_text(None, tokenizer, 400, 32, file=file)
    with pytest.raises(QuantizationError, match="cannot be read as text"):
        calibration_text(None, tokenizer, 4, 32, file=tmp_path / "none.txt")
    with pytest.raises(QuantizationError, match="too small a calibration set: take 64 of 256"):
        calibration_text(None, tokenizer, 0, 32)


def test_a_model_that_is_not_built_like_a_llama_is_refused():
    with pytest.raises(QuantizationError, match="Linear is not built like a Llama"):
        decoder_layers(torch.nn.Linear(2, 2))


def test_a_layer_that_is_never_reached_is_named(ids):
    model = llama()
    spare = copy.deepcopy(linears(decoder_layers(model)[0]))
    with pytest.raises(QuantizationError, match="never reached self_attn"):
        collect(spare, lambda: forward(model, ids), NEEDS)

"""A quantized glass box says what transformers' model says after `quantize_model`, and what a checkpoint that was exported holds."""
from __future__ import annotations

import copy

import pytest
import torch

from labkit.glassbox import Engine, EngineOptions, OptionsError
from labkit.glassbox.quantized_linear import QuantizedLinear
from labkit.quantization.errors import QuantizationError
from labkit.quantization.methods import METHODS
from labkit.quantization.model import quantize_model
from labkit.quantization.text import LENGTH, calibration_text
from tests.glassbox.quantized import ROWS, greedy, params, prompts, run, with_tokenizer

GROUP = 16
SMALL = dict(
    block_size=4, num_gpu_blocks_override=40, max_model_len=64, max_num_seqs=4, quantization_calibration_rows=ROWS, check_invariants=True
)
# Methods that round their inputs turn the last bit of a sum into a step of the rounding: only clear choices must agree, and what LLM.int8()
# rounds depends on who is in the batch.
GAPS = {"smoothquant": 0.05, "llm-int8": 0.05}


@pytest.fixture(scope="module")
def models(model_folder, tmp_path_factory):
    """models(kind) -> folder, transformers' model, calibration text; each made once."""
    made = {}

    def get(kind: str):
        if kind not in made:
            from transformers import AutoModelForCausalLM, AutoTokenizer

            path = with_tokenizer(model_folder(kind), tmp_path_factory.mktemp("models") / kind)
            model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
            ids = calibration_text(model, AutoTokenizer.from_pretrained(path), ROWS, min(LENGTH, 256)).ids
            made[kind] = path, model, ids
        return made[kind]

    return get


def settings(name: str) -> dict:
    return {"quantization": name, "quantization_group_size": GROUP if METHODS[name].takes_groups else None}


@pytest.mark.parametrize(
    ("kind", "name"), [*(("llama", name) for name in METHODS), ("qwen2", "awq"), ("qwen3", "smoothquant"), ("llama3", "gptq")]
)
def test_tokens_are_those_of_transformers_model_quantized_by_the_same_method(kind, name, models):
    path, original, ids = models(kind)
    options = SMALL | ({"max_num_seqs": 1, "enable_prefix_caching": False} if name == "llm-int8" else {})
    engine = Engine.from_folder(path, EngineOptions(**options, **settings(name)))
    model = copy.deepcopy(original)
    quantize_model(model, name, None, settings(name)["quantization_group_size"], ids if METHODS[name].calibrates else None)
    asked = prompts(16, seed=len(name))
    outputs = engine.generate(asked, params(12))
    compared = 0
    for prompt, output in zip(asked, outputs, strict=True):
        expected = greedy(model, prompt, 12, GAPS.get(name, 1e-3))
        assert output.token_ids[: len(expected)] == expected
        compared += len(expected)
    assert compared > 40
    plain = Engine.from_folder(path, EngineOptions(**SMALL)).generate(asked, params(12))
    assert [output.token_ids for output in plain] != [output.token_ids for output in outputs] or METHODS[name].bits[0] == 8


def test_weights_stay_packed_and_their_bytes_are_those_that_the_methods_count(models):
    path, original, ids = models("llama")
    engine = Engine.from_folder(path, EngineOptions(**SMALL, **settings("gptq")))
    model = copy.deepcopy(original)
    result = quantize_model(model, "gptq", None, GROUP, ids)
    layers = engine.runner.model.layers
    for layer in layers:
        for module in (layer.self_attn.qkv_proj, layer.self_attn.o_proj, layer.mlp.gate_up_proj, layer.mlp.down_proj):
            assert isinstance(module, QuantizedLinear)
    rest = sum(parameter.nbytes for name, parameter in original.named_parameters() if "proj" not in name)
    assert engine.runner.workshop.parts.weight_bytes == result.nbytes + rest
    mine = [part for layer in layers for module in layer.modules() if isinstance(module, QuantizedLinear) for part in module.packed]
    assert sum(part.nbytes for part in mine) == result.nbytes


@pytest.mark.parametrize(
    ("name", "form"), [("gptq", "gptq"), ("awq", "awq"), ("smoothquant", "compressed-tensors"), ("rtn", "compressed-tensors")]
)
def test_an_exported_checkpoint_is_served_as_it_was_packed(name, form, tmp_path):
    from transformers import AutoModelForCausalLM

    from labkit.glassbox.quantized_linear import weight_bytes
    from labkit.models import folder
    from labkit.quantization.export.checkpoint import export
    from labkit.quantization.export.load import load_model

    tiny = folder("tiny")
    original = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32).eval()
    ids = torch.randint(3, 2000, (8, 128), generator=torch.Generator().manual_seed(0))
    result = quantize_model(original, name, 4 if METHODS[name].takes_bits else None, 64 if METHODS[name].takes_groups else None, ids)
    export(tiny, result, tmp_path / "out", form)
    engine = Engine.from_folder(tmp_path / "out", EngineOptions(max_model_len=128, num_gpu_blocks_override=32))
    reference = load_model(tmp_path / "out")
    asked = [[1, 60 + n, 400, 17 * n + 3, 900] for n in range(8)]
    outputs, compared = engine.generate(asked, params(12)), 0
    for prompt, output in zip(asked, outputs, strict=True):
        expected = greedy(reference, prompt, 12, GAPS.get(name, 1e-3))
        assert output.token_ids[: len(expected)] == expected
        compared += len(expected)
    assert compared > 20
    packed = sum(module.packed.nbytes for module in reference.modules() if hasattr(module, "packed"))
    rest = sum(parameter.nbytes for parameter in reference.parameters())
    assert weight_bytes(engine.runner.model) >= packed and engine.runner.workshop.parts.weight_bytes == packed + rest
    with pytest.raises(QuantizationError, match=f"already quantized, by {form}: leave the quantization out .* or give the original"):
        Engine.from_folder(tmp_path / "out", EngineOptions(max_model_len=128, quantization="rtn"))


def test_random_weights_are_quantized_too(model_folder, tmp_path):
    import shutil

    shutil.copy(model_folder("qwen3") / "config.json", tmp_path)
    options = EngineOptions(load_format="dummy", quantization="nf4", **SMALL)
    engine = Engine.from_folder(tmp_path, options)
    engine.add_request([5, 6], params(4), "a")
    assert len(run(engine)["a"]) == 4


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"quantization": "gtpq"}, "--quantization gtpq.*there is no quantization method 'gtpq': there are rtn.* Did you mean 'gptq'"),
        ({"quantization": "rtn", "quantization_bits": 9}, "9 bits are not possible here: take 2 to 8"),
        ({"quantization": "fp8", "quantization_group_size": 16}, "fp8 has no groups"),
        ({"quantization_bits": 4}, "bits and group_size belong to a quantization method"),
        ({"kv_cache_dtype": "int4"}, "there is no kv_cache_dtype 'int4': there are auto, int8, fp8"),
        ({"quantization": "gptq", "quantization_calibration_rows": 0}, "0 rows are no calibration set"),
    ],
)
def test_settings_that_there_are_not_are_refused_before_anything_is_loaded(given, message):
    with pytest.raises(OptionsError, match=message):
        EngineOptions(**given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"quantization": "rtn"}, r"down_proj: 112 inputs do not divide into groups of 64: take a group size of .*56"),
        ({"quantization": "gptq", "quantization_group_size": 16}, "gptq needs a calibration text, and .* has no tokenizer.json"),
        ({"kv_cache_dtype": "int8", "attention_backend": "paged"}, "no kernel reads a KV cache in int8 where it is; use auto or gather"),
    ],
)
def test_what_a_model_cannot_have_is_refused_with_the_remedy(given, message, model_folder):
    with pytest.raises((QuantizationError, OptionsError), match=message):
        Engine.from_folder(model_folder("llama"), EngineOptions(**SMALL | given))


def test_a_calibration_set_that_is_too_small_is_refused():
    from labkit.models import folder

    with pytest.raises(QuantizationError, match="256 tokens is too small for layers of 704 inputs: give at least 3 rows"):
        Engine.from_folder(folder("tiny"), EngineOptions(max_model_len=128, quantization="gptq", quantization_calibration_rows=1))

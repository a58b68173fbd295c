"""Checkpoints: what is written, read back, and refused."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from labkit.bench.examples import llama
from labkit.models import folder
from labkit.quantization import gptq, nf4, round_to_nearest
from labkit.quantization.calibration import forward
from labkit.quantization.command import main
from labkit.quantization.errors import QuantizationError
from labkit.quantization.export import awq, compressed_tensors
from labkit.quantization.export import gptq as gptq_format
from labkit.quantization.export.checkpoint import export
from labkit.quantization.export.load import load_model, load_tensors
from labkit.quantization.model import quantize_model

WAYS = [
    ("gptq", {"bits": 4}, "gptq"),
    ("gptq", {"bits": 8}, "gptq"),
    ("rtn", {"bits": 4, "per": "channel"}, "gptq"),
    ("gptq", {"bits": 4}, "compressed-tensors"),
    ("awq", {"bits": 4}, "awq"),
    ("awq", {"bits": 4, "symmetric": True}, "awq"),
    ("awq", {"bits": 4}, "compressed-tensors"),
    ("rtn", {"bits": 8}, "compressed-tensors"),
    ("smoothquant", {}, "compressed-tensors"),
]


@pytest.fixture
def source(tmp_path):
    llama(4, "Qwen2").save_pretrained(tmp_path / "source")
    (tmp_path / "source" / "tokenizer.json").write_text("{}")
    return tmp_path / "source"


def quantized(name: str, ids, **options):
    model = llama(4, "Qwen2")
    return model, quantize_model(model, name, ids=ids, **({"group_size": 32} if name != "smoothquant" else {}), **options)


@pytest.mark.parametrize(("name", "options", "form"), WAYS)
def test_what_is_exported_reads_back_as_the_same_packed_model(source, tmp_path, ids, name, options, form):
    model, result = quantized(name, ids, **options)
    written = export(source, result, tmp_path / "out", form)
    assert written.format == form and written.nbytes == (tmp_path / "out" / "model.safetensors").stat().st_size
    linears, others = load_tensors(tmp_path / "out")
    assert set(linears) == set(result.linears)
    for path, packed in linears.items():
        assert torch.equal(packed.dequantize(), result.linears[path].dequantize())
        assert packed.shape == result.linears[path].shape
    for path, weight in result.changed.items():
        assert torch.equal(others[path].float(), weight)
    assert {tensor.dtype for tensor in others.values()} == {torch.float16}
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["quantization_config"]["quant_method"] == form and config["torch_dtype"] == "float16"
    assert (tmp_path / "out" / "tokenizer.json").read_text() == "{}"
    for parameter in model.parameters():
        parameter.data = parameter.data.half().float()
    with torch.no_grad():
        torch.testing.assert_close(forward(load_model(tmp_path / "out"), ids), forward(model, ids), rtol=1e-3, atol=1e-3)


def test_a_gptq_word_holds_eight_inputs_of_one_output_and_zeros_less_one():
    packed = gptq.quantize(torch.randn(32, 64), torch.eye(64), 4, group_size=32)
    found = gptq_format.tensors(packed)
    codes = torch.stack([(found["qweight"] >> (4 * place)) & 15 for place in range(8)], 1).flatten(0, 1)  # [inputs, outputs]
    weight = (codes - 8) * found["scales"].float()[found["g_idx"]]
    assert torch.equal(weight.T, packed.dequantize())
    assert all((((found["qzeros"] >> (4 * place)) & 15) + 1 == 8).all() for place in range(8))


def test_an_awq_word_holds_eight_outputs_in_the_order_of_its_kernel():
    packed = round_to_nearest.quantize(torch.randn(32, 64), 4, "group", 32, symmetric=False)
    found = awq.tensors(packed)
    outputs = (0, 2, 4, 6, 1, 3, 5, 7)  # AutoAWQ's pack order
    codes, zeros = torch.zeros(64, 32, dtype=torch.int32), torch.zeros(2, 32, dtype=torch.int32)
    for place, output in enumerate(outputs):
        codes[:, output::8] = (found["qweight"] >> (4 * place)) & 15
        zeros[:, output::8] = (found["qzeros"] >> (4 * place)) & 15
    weight = (codes - zeros.repeat_interleave(32, 0)) * found["scales"].float().repeat_interleave(32, 0)
    assert torch.equal(weight.T, packed.dequantize())


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: gptq_format.tensors(round_to_nearest.quantize(torch.ones(32, 64), 4, symmetric=False)), "GPTQ checkpoint holds sym"),
        (lambda: gptq_format.config(round_to_nearest.quantize(torch.ones(32, 64), 3)), "4 or 8 bits: quantize with gptq or rtn"),
        (lambda: awq.tensors(round_to_nearest.quantize(torch.ones(32, 64), 8, group_size=32)), "AWQ checkpoint holds grids of 4 bits"),
        (lambda: compressed_tensors.tensors(nf4.quantize(torch.ones(32, 64))), "compressed-tensors checkpoint holds 4 or 8 bits, or W8A8"),
    ],
)  # fmt: skip
def test_what_a_format_cannot_hold_is_refused_with_the_remedy(call, said):
    with pytest.raises(QuantizationError, match=said):
        call()


def test_methods_that_servers_do_not_load_and_full_folders_are_refused(source, tmp_path, ids):
    _, result = quantized("gptq", ids, bits=4)
    with pytest.raises(QuantizationError, match="holds a model already: give another folder"):
        export(source, result, source)
    result.method = "squeezellm"
    with pytest.raises(QuantizationError, match="squeezellm has no checkpoint format .* export rtn, .*dropped SqueezeLLM"):
        export(source, result, tmp_path / "out")
    with pytest.raises(QuantizationError, match="is not quantized"):
        load_tensors(source)


def test_a_checkpoint_with_groups_in_an_order_of_their_own_is_refused(source, tmp_path, ids):
    from safetensors.torch import save_file

    _, result = quantized("gptq", ids, bits=4)
    export(source, result, tmp_path / "out")
    tensors = load_file(tmp_path / "out" / "model.safetensors")
    name = "model.layers.0.mlp.up_proj.g_idx"
    tensors[name] = tensors[name].flip(0)
    save_file(tensors, tmp_path / "out" / "model.safetensors")
    with pytest.raises(QuantizationError, match="desc_act"):
        load_tensors(tmp_path / "out")


def test_the_command_quantizes_the_shipped_model_and_says_what_it_saved(tmp_path, capsys):
    assert main(["tiny", "--method", "rtn", "--bits", "4", "--group", "32", "--out", str(tmp_path / "out"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert report["bits_per_weight"] == 4.5
    assert report["options"] == {"bits": 4, "group_size": 32}
    assert report["bytes"] < 0.4 * report["bytes_before"]
    assert report["bytes"] < report["file_bytes"] < 1.02 * report["bytes"]
    original, found = load_file(folder("tiny") / "model.safetensors"), load_model(tmp_path / "out")
    name = "model.layers.3.mlp.down_proj"
    plain = round_to_nearest.quantize(original[f"{name}.weight"], 4, "group", 32)
    assert torch.equal(found.get_submodule(name).packed.dequantize(), plain.dequantize())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--method", "gtpq"], "Did you mean 'gptq'"),
        (["--method", "nf4"], "no checkpoint format"),
        (["--method", "rtn", "--format", "gguf"], "no checkpoint format 'gguf': there are gptq, awq, compressed-tensors"),
        (["--method", "rtn", "--bits", "11"], "take 2 to 8"),
        (["--method", "rtn", "--group", "128"], "down_proj: 704 inputs do not divide into groups of 128"),
        (["--method", "rtn", "--bits", "3"], "4 or 8 bits"),
        (["--method", "gptq", "--rows", "1"], "256 tokens is too small for layers of 704 inputs: give at least 3 rows"),
        (["nowhere"], "no model 'nowhere'"),
    ],
)  # fmt: skip
def test_the_command_names_what_is_wrong_and_writes_nothing(words, said, tmp_path, capsys):
    assert main([*words, "--out", str(tmp_path / "out"), "--json"]) == 1
    assert said in json.loads(capsys.readouterr().out.splitlines()[-1])["error"]
    assert not (tmp_path / "out").exists()


def test_a_quantized_checkpoint_is_not_quantized_again(tmp_path, capsys):
    shutil.copytree(folder("tiny"), tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    (tmp_path / "model" / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "awq"}}))
    assert main([str(tmp_path / "model"), "--out", str(tmp_path / "out")]) == 1
    assert "already quantized, by awq: give the original checkpoint" in capsys.readouterr().err

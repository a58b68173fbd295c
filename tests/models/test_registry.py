"""Where models are found, and what wrong ones get."""

from __future__ import annotations

import json

import pytest

from labkit.models import folder
from labkit.models.command import main
from labkit.models.registry import ModelError, has_weights
from labkit.models.shapes import shapes


def test_the_shipped_model_is_found_by_name_and_by_path():
    assert folder("tiny") == folder(folder("tiny"))
    assert has_weights(folder())


@pytest.mark.parametrize(
    ("files", "cause"),
    [
        ({}, "no config.json"),
        ({"config.json": "{"}, "not valid JSON"),
        ({"config.json": "[]"}, "no model_type"),
        ({"config.json": '{"model_type": "llama"}'}, "no tokenizer.json"),
    ],
)
def test_a_wrong_folder_is_refused_with_the_cause(tmp_path, files, cause):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(ModelError, match=cause):
        folder(tmp_path)


def test_a_file_and_a_name_that_is_nowhere_are_refused_with_the_remedy(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match="give the folder"):
        folder(tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match="tiny"):
        folder("tinny")
    with pytest.raises(ModelError, match="tiny"):
        folder(tmp_path / "nowhere")


def test_a_hub_name_without_a_network_is_refused_with_cause_and_remedy(tmp_path):
    import os
    import subprocess
    import sys

    program = """
from labkit.models import folder
from labkit.models.registry import ModelError
try:
    folder("owner/model")
except ModelError as error:
    print(error)
"""
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, timeout=60)
    assert "cannot get owner/model" in done.stdout and "network" in done.stdout, done.stderr


def test_the_list_names_the_shipped_model_with_its_folder(capsys):
    assert main(["--json"]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    tiny = result["models"][0]
    assert (tiny["name"], tiny["folder"], tiny["context"]) == ("tiny", str(folder("tiny")), 2048)
    assert tiny["bytes"] <= 15e6


def test_asking_for_a_model_that_is_not_there_fails_with_one_json_object(capsys):
    assert main(["--json", "--find", "nowhere"]) == 1
    assert "nowhere" in json.loads(capsys.readouterr().out.splitlines()[-1])["error"]


@pytest.mark.parametrize("name", sorted(shapes()))
def test_a_shape_without_weights_is_one_that_transformers_builds_with_as_many_parameters_as_we_count(name, tmp_path, capsys):
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    assert main(["--shape", name, "--out", str(tmp_path)]) == 0
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(tmp_path))
    assert sum(weight.numel() for weight in model.parameters()) == shapes()[name].parameters
    assert len(AutoTokenizer.from_pretrained(tmp_path)) <= model.config.vocab_size
    assert folder(tmp_path) == tmp_path and not has_weights(tmp_path)

"""Triton's configurations against Triton's own schema, and what bad options get. No server is started."""
from __future__ import annotations

import json
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import DataType, ModelConfig, ModelInstanceGroup

from labkit.models import folder
from labkit.servers import triton_config
from labkit.servers.driver import ServerError, words
from labkit.servers.triton import Triton
from labkit.servers.triton_options import TritonOptions, parse
from labkit.servers.triton_repository import check_users_own, glassbox_models

SERVER_FLAGS = {"log-verbose", "allow-cpu-metrics", "http-port"}
VOCABULARY = json.loads((folder("tiny") / "config.json").read_text())["vocab_size"]


def models(**options) -> dict[str, ModelConfig]:
    """labkit's configurations, through their text form, as Triton would read them."""
    configs = glassbox_models(parse(words(options), SERVER_FLAGS), folder("tiny"))
    return {config.name: text_format.Parse(triton_config.render(config), ModelConfig()) for config in configs}


@pytest.mark.parametrize(("text", "message"), [
    ('input [{ name: "input_ids" shape: [-1] }]', 'Message type "inference.ModelInput" has no field named "shape"'),
    ('input [{ name: "input_ids" data_type: INT64 }]', 'Enum type "inference.DataType" has no value named INT64'),
    ('output [{ name: "logits" data_type: FP32 }]', 'Enum type "inference.DataType" has no value named FP32'),
    ("optimization { graph: { enabled: true } }", 'Message type "inference.ModelOptimizationPolicy.Graph" has no field named "enabled"'),
])
def test_what_the_article_writes_is_refused_in_tritons_own_words_with_its_place(text, message):
    with pytest.raises(ServerError) as error:
        triton_config.check('name: "llama"\n' + text)
    assert message in str(error.value)
    assert "config.pbtxt: 2:" in str(error.value)


def test_every_model_of_the_repository_survives_its_text_form():
    configs = models()
    assert set(configs) == {"tokenizer", "detokenizer", "next_token", "glassbox", "ensemble", "streaming_ensemble"}
    assert all(config.backend == "python" for name, config in configs.items() if "ensemble" not in name)


def test_the_ensemble_has_what_the_article_left_out_and_every_tensor_has_a_source_of_its_type():
    configs = models()
    ensemble = configs["ensemble"]
    assert ensemble.platform == "ensemble"
    assert not ensemble.instance_group
    known = {tensor.name: tensor.data_type for tensor in ensemble.input}
    for step in ensemble.ensemble_scheduling.step:
        assert step.model_version == -1
        model = configs[step.model_name]
        wanted = {tensor.name: tensor for tensor in model.input}
        assert {tensor.name for tensor in model.input if not tensor.optional} <= set(step.input_map)
        assert all(known[source] == wanted[name].data_type for name, source in step.input_map.items())
        made = {tensor.name: tensor.data_type for tensor in model.output}
        known |= {target: made[name] for name, target in step.output_map.items()}
    assert {tensor.name: tensor.data_type for tensor in ensemble.output}.items() <= known.items()
    assert "attention_mask" in ensemble.ensemble_scheduling.step[1].input_map


def test_the_batchers_options_are_the_fields_of_config_pbtxt():
    config = models(max_queue_delay_microseconds=700, preferred_batch_size=[2, 4], max_batch_size=16, instance_count=3)["next_token"]
    assert config.dynamic_batching.max_queue_delay_microseconds == 700
    assert list(config.dynamic_batching.preferred_batch_size) == [2, 4]
    assert config.max_batch_size == 16
    assert [(group.count, group.kind) for group in config.instance_group] == [(3, ModelInstanceGroup.KIND_MODEL)]
    (output,) = config.output
    assert (output.name, output.data_type, list(output.dims)) == ("logits", DataType.TYPE_FP32, [VOCABULARY])


def test_batching_and_ragged_batches_can_be_switched_off():
    assert models()["next_token"].WhichOneof("scheduling_choice") == "dynamic_batching"
    assert all(tensor.allow_ragged_batch for tensor in models()["next_token"].input)
    off = models(dynamic_batching=False, ragged_batch=False)["next_token"]
    assert off.WhichOneof("scheduling_choice") is None
    assert not any(tensor.allow_ragged_batch for tensor in off.input)


def test_only_the_language_model_is_decoupled_and_it_takes_its_devices_itself():
    configs = models()
    assert [name for name, config in configs.items() if config.model_transaction_policy.decoupled] == ["glassbox"]
    assert configs["glassbox"].max_batch_size == 0
    assert [group.kind for group in configs["glassbox"].instance_group] == [ModelInstanceGroup.KIND_MODEL]


def test_the_engines_options_reach_the_engine_under_the_glass_boxs_names():
    parameters = models(block_size=8, num_gpu_blocks_override=512, enable_prefix_caching=False)["glassbox"].parameters
    options = json.loads(parameters["engine_options"].string_value)
    assert (options["block_size"], options["num_gpu_blocks_override"], options["enable_prefix_caching"]) == (8, 512, False)


def test_options_of_tritonserver_go_to_tritonserver_as_it_writes_them():
    chosen = parse(words({"log_verbose": 1, "allow_cpu_metrics": False, "block_size": 8}), SERVER_FLAGS)
    assert sorted(chosen.server_flags) == ["--allow-cpu-metrics=false", "--log-verbose=1"]
    assert chosen.engine_flags == ["--block-size", "8"]


@pytest.mark.parametrize(("options", "message"), [
    ({"preferred_batch_size": [4, 9]}, "9 is not from 1 to --max-batch-size 8"),
    ({"max_queue_delay_microseconds": -1}, "must be at least 0, got -1"),
    ({"instance_count": 0}, "must be at least 1, got 0"),
    ({"max_batch_size": "many"}, "invalid int value: 'many'"),
    ({"engine": "tgi"}, "choose from 'glassbox', 'vllm'"),
    ({"dynamic_batching": False, "max_queue_delay_microseconds": 5}, "no batcher"),
    ({"http_port": 8000}, "give port="),
    ({"container": True}, "goes with --engine vllm"),
    ({"blck_size": 8}, "has an option --blck-size. Did you mean --block-size?"),
    ({"instance_cuont": 2}, "Did you mean --instance-count?"),
    ({"log_verbos": 1}, "Did you mean --log-verbose?"),
    ({"block_size": "big"}, "invalid int value: 'big'"),
    ({"num_gpu_blocks_override": 2}, "the KV pool is too small"),
])
def test_a_wrong_option_is_refused_before_anything_starts(options, message):
    with pytest.raises(ServerError, match=re.escape(message)):
        models(**options)


def own_model(root: Path, config: str) -> Path:
    (root / "mine" / "1").mkdir(parents=True)
    (root / "mine" / "config.pbtxt").write_text(config)
    return root


@pytest.mark.parametrize(("config", "message"), [
    ('name: "mine" input [{ name: "a" shape: [1] }]', 'no field named "shape"'),
    ('name: "other"', "Triton wants the name of its folder, 'mine'"),
])
def test_a_users_own_repository_is_checked_before_the_start(tmp_path, config, message):
    with pytest.raises(ServerError, match=message) as error:
        check_users_own([own_model(tmp_path, config)], set())
    assert str(tmp_path / "mine" / "config.pbtxt") in str(error.value)


def test_a_users_own_model_must_not_bear_a_name_of_labkits(tmp_path):
    with pytest.raises(ServerError, match="Rename yours"):
        check_users_own([own_model(tmp_path, 'name: "mine"')], {"mine"})


def test_a_repository_that_is_not_there_or_has_no_config_is_named(tmp_path):
    with pytest.raises(ServerError, match="there is no such folder"):
        check_users_own([tmp_path / "nowhere"], set())
    (tmp_path / "mine").mkdir()
    with pytest.raises(ServerError, match="mine has no config.pbtxt"):
        check_users_own([tmp_path], set())


def test_a_disk_that_takes_no_more_is_an_error_that_says_so(tmp_path):
    """A process that may write no byte into any file meets what a full disk gives."""
    wheel = tmp_path / "lib" / "python3.11" / "site-packages" / "pytriton" / "tritonserver"
    (wheel / "backends" / "python").mkdir(parents=True)
    code = f"""
import signal
from pathlib import Path
from labkit.servers.driver import ServerError
from labkit.servers.triton_config import ensemble
from labkit.servers.triton_repository import Wheel, write
try:
    write(Path({str(tmp_path)!r}) / "w", [ensemble()], Wheel(Path({str(wheel.parents[1])!r})), Path())
except ServerError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2],
                          preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)))
    assert "cannot write Triton's model repository" in done.stdout, done.stderr
    assert "Free some room there, or set LABKIT_HOME" in done.stdout


@pytest.mark.parametrize(("log", "cause"), [
    ('E1122 10:39:36.5 9835 main.cc:245] "failed to start HTTP service: Unavailable - Socket \'127.0.0.1:9101\' already in use "\n',
     "127.0.0.1:9101 is taken"),
    ("E1122 11:01 20463 model_repository_manager.cc:1460] \"Poll failed for model directory 'mine': ensemble tensor 'm' is unused\"\n",
     "Triton refuses the model mine: ensemble tensor 'm' is unused"),
    ("E1122 1 x.cc:1] \"failed to load 'mine' version 1: Internal: ValueError: no weights\n\nAt:\n  /x/1/model.py(3): initialize\n\"\n",
     "the model mine could not be loaded: ValueError: no weights"),
    ('\nBad option: "--log-verbose".\nInvalid option value. Got x\n', "--log-verbose: Invalid option value. Got x"),
    ("terminate called after throwing an instance of 'boost::interprocess::lock_exception'\nSignal (6) received.\n",
     "the process of a Triton model has died, and Triton with it"),
])
def test_a_failed_start_is_explained_from_tritons_log(log, cause):
    assert cause in Triton().explain("I1122 noise\n" + log + "I1122 more noise\n")


def test_a_log_without_a_known_cause_is_left_to_speak_for_itself():
    assert Triton().explain('I1122 11:01 20463 server.cc:305] "Waiting for in-flight requests to complete."\n') is None


def test_defaults_are_tritons_own():
    defaults, proto = TritonOptions(), ModelConfig()
    assert defaults.max_queue_delay_microseconds == proto.dynamic_batching.max_queue_delay_microseconds
    assert defaults.preferred_batch_size == list(proto.dynamic_batching.preferred_batch_size)

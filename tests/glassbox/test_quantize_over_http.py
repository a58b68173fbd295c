"""POST /quantize on a server that answers others meanwhile, and the same from a notebook's handle."""
from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from labkit.glassbox import OptionsError
from labkit.glassbox.quantization import Quantization
from labkit.glassbox.server import check, parser
from labkit.servers import ServerError, attach
from labkit.trace import PoolState, read
from tests.glassbox.test_server import Server, serving, wait_until

BLOCKS = 8


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    flags = ["--max-model-len", "128", "--num-gpu-blocks-override", str(BLOCKS), "--check-invariants", "--trace-file", str(folder / "run")]
    with serving(folder / "log", *flags) as server:
        server.run_file = folder / "run"
        yield server


def post(server: Server, body: object) -> tuple[int, dict]:
    request = urllib.request.Request(f"{server.url}/quantize", json.dumps(body).encode())
    try:
        with urllib.request.urlopen(request, timeout=120) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)["error"]


def test_streams_go_on_through_a_switch_and_the_pool_is_larger(server):
    def ask(number: int):
        return server.client.completions.create(
            model="tiny", prompt=[7 + number] * 30, max_tokens=60, temperature=0, stream=True,
            extra_body={"ignore_eos": True, "return_token_ids": True},
        )  # fmt: skip

    streams = [ask(number) for number in range(4)]
    counts = [len(next(streams[0]).choices[0].token_ids), 0, 0, 0]
    status, changed = post(server, {"method": "rtn", "bits": 4, "kv_cache_dtype": "int8"})
    assert status == 200
    for number, stream in enumerate(streams):
        counts[number] += sum(len(chunk.choices[0].token_ids) for chunk in stream)
    assert counts == [60] * 4
    assert (changed["method"], changed["bits"], changed["kv_cache_dtype"]) == ("rtn", 4, "int8")
    freed = changed["weight_bytes_before"] - changed["weight_bytes_after"] + BLOCKS * changed["block_bytes_before"]
    assert changed["num_blocks_before"] == BLOCKS and changed["num_blocks_after"] == freed // changed["block_bytes_after"] > 100
    text = urllib.request.urlopen(f"{server.url}/metrics", timeout=30).read().decode()
    [info] = [line for line in text.splitlines() if line.startswith("glassbox:cache_config_info{")]
    assert f'num_gpu_blocks="{changed["num_blocks_after"]}"' in info and 'kv_cache_dtype="int8"' in info


def test_a_notebooks_handle_does_the_same_and_the_run_file_tells(server):
    handle = attach(server.url)
    handle.quantize("fp8", kv_cache_dtype="fp8")
    changed = handle.quantize("none", kv_cache_dtype="auto")
    assert changed["num_blocks_after"] == BLOCKS and changed["num_blocks_before"] > BLOCKS
    with pytest.raises(ServerError, match="there is no quantization method 'gtpq'.* Did you mean 'gptq'"):
        handle.quantize("gtpq")
    last = handle.quantize("rtn")["num_blocks_after"]

    def sizes() -> list[int]:
        run, found = read(server.run_file), [BLOCKS]
        state = PoolState(run.header)
        for event in run.events:
            state.apply(event)
            found += [state.num_blocks] * (found[-1] != state.num_blocks)
        return found

    wait_until(lambda: sizes()[-1] == last > 100, "the recorder has written the last switch")
    assert BLOCKS in sizes()[1:]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ([], "must be a JSON object"),
        ({"metod": "rtn"}, "metod is no setting of a quantization: there are method, bits"),
        ({"method": 4}, "method must be of type str, got 4"),
        ({"bits": True}, "bits must be of type int, got True"),
        ({"method": "rtn", "group_size": 60}, "256 inputs do not divide into groups of 60"),
        ({"kv_cache_dtype": "int3"}, "there is no kv_cache_dtype 'int3'"),
        ({"method": "gptq", "calibration_rows": 1}, "256 tokens is too small for layers of 704 inputs"),
    ],
    ids=str,
)
def test_a_body_that_cannot_be_is_answered_with_400_and_the_remedy(body, message, server):
    status, error = post(server, body)
    assert status == 400 and message in error["message"]


def test_only_glass_boxes_are_quantized_while_they_run(server):
    handle = attach(server.url)
    handle.name = "vllm"
    with pytest.raises(ServerError, match="vllm cannot be quantized while it runs, only the glass box can: stop it and serve a checkpoint"):
        handle.quantize("rtn")


def test_start_options_have_vllms_names():
    flags = ["--quantization", "gptq", "--quantization-bits", "3", "--quantization-group-size", "32", "--kv-cache-dtype", "fp8"]
    _, options = check(parser().parse_args(flags))
    assert options.wanted_quantization() == Quantization.of("gptq", 3, 32, "fp8_e4m3")
    with pytest.raises(OptionsError, match="--quantization gtpq.*Did you mean 'gptq'"):
        check(parser().parse_args(["--quantization", "gtpq"]))

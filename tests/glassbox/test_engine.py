"""What `Engine` does beside computing the right tokens: ends, cancels, traces, and says what is wrong."""
from __future__ import annotations

import json
import shutil

import pytest

from labkit.glassbox import Engine, EngineOptions, OptionsError, SamplingParams
from labkit.glassbox.kv_cache import OutOfMemory
from labkit.models import folder
from labkit.models.registry import ModelError
from labkit.trace import Header, PoolState, Snapshot, Step

GREEDY = SamplingParams(max_tokens=12, temperature=0.0, ignore_eos=True)
SMALL = dict(num_gpu_blocks_override=64, block_size=4, max_model_len=64, check_invariants=True)


@pytest.fixture(scope="module")
def engine(model_folder) -> Engine:
    return Engine.from_folder(model_folder("llama"), EngineOptions(**SMALL))


def test_a_stop_token_ends_a_request_and_is_named(engine):
    tokens = engine.generate([[5, 6, 7]], GREEDY)[0].token_ids
    index = next(i for i in range(1, 12) if tokens[i] not in tokens[:i])
    [output] = engine.generate([[5, 6, 7]], SamplingParams(max_tokens=12, temperature=0.0, ignore_eos=True, stop_token_ids=[tokens[index]]))
    assert output.token_ids == tokens[: index + 1]
    assert (output.finish_reason, output.stop_reason) == ("stop", tokens[index])


def test_the_end_token_ends_a_request_unless_it_is_ignored(model_folder, engine):
    tokens = engine.generate([[5, 6, 7]], GREEDY)[0].token_ids
    index = next(i for i in range(1, 12) if tokens[i] not in tokens[:i])
    engine.eos_token_ids, before = frozenset([tokens[index]]), engine.eos_token_ids
    try:
        [output] = engine.generate([[5, 6, 7]], SamplingParams(max_tokens=12, temperature=0.0))
        assert (output.finish_reason, output.stop_reason, len(output.token_ids)) == ("stop", None, index + 1)
        assert engine.generate([[5, 6, 7]], GREEDY)[0].token_ids == tokens
    finally:
        engine.eos_token_ids = before


def test_the_text_ends_before_a_stop_token_unless_it_is_asked_for():
    engine = Engine.from_folder(folder("tiny"), EngineOptions(max_model_len=256))
    [whole] = engine.generate(["Once upon a time"], GREEDY)
    index = next(i for i in range(3, 12) if whole.token_ids[i] not in whole.token_ids[:i])
    stops = dict(max_tokens=12, temperature=0.0, ignore_eos=True, stop_token_ids=[whole.token_ids[index]])
    [without] = engine.generate(["Once upon a time"], SamplingParams(**stops))
    [included] = engine.generate(["Once upon a time"], SamplingParams(**stops, include_stop_str_in_output=True))
    assert without.token_ids == included.token_ids == whole.token_ids[: index + 1]
    assert without.text == engine.tokenizer.decode(whole.token_ids[:index])
    assert included.text == engine.tokenizer.decode(whole.token_ids[: index + 1]) != without.text


def test_a_step_that_is_interrupted_leaves_nothing_that_others_could_find(engine, monkeypatch):
    prompt = [31, 41, 59, 26, 53, 58, 97, 93, 23, 84, 62, 64]
    expected = engine.generate([prompt], GREEDY)[0].token_ids
    prompt = [32, *prompt[1:]]
    interrupted = []

    def interrupt(plan):
        interrupted.append(plan)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(engine.runner, "run", interrupt)
        with pytest.raises(KeyboardInterrupt):
            engine.generate([prompt, [*prompt, 7]], GREEDY)
    assert interrupted[0].shared and not engine.has_unfinished() and engine.scheduler.kv.usage == 0
    [output] = engine.generate([prompt], GREEDY)
    assert output.num_cached_tokens == 0
    fresh = Engine(engine.scheduler, engine.runner)
    fresh.scheduler.kv.resize(64)  # forgets what is cached
    assert output.token_ids == fresh.generate([prompt], GREEDY)[0].token_ids
    assert engine.generate([[31, *prompt[1:]]], GREEDY)[0].token_ids == expected


def test_a_request_has_been_scheduled_when_its_first_chunk_is(model_folder):
    times = iter(range(1000))
    engine = Engine.from_folder(model_folder("llama"), EngineOptions(**SMALL | {"max_num_batched_tokens": 8, "max_num_seqs": 8}))
    engine.clock = lambda: float(next(times))
    engine.add_request([5] * 40, GREEDY, "long")  # at 0
    outputs = []
    while not outputs:
        outputs = engine.step()
    assert outputs[0].arrival == 0 and outputs[0].first_scheduled == 1 and outputs[0].emitted == 10  # five steps of two looks at the clock


def test_a_request_that_slips_through_at_the_door_ends_itself_not_the_engine(engine):
    from labkit.glassbox.engine_process import EngineLoop

    loop = EngineLoop(engine, connection=None)
    loop.inbox += [("add", "empty", [], GREEDY, 0), ("add", "wrong", [5], SamplingParams(stop_token_ids=["x"]), 0)]
    outputs = loop._take()
    assert [(output.request_id, output.finish_reason) for output in outputs] == [("empty", "refused"), ("wrong", "refused")]
    assert "prompt is empty" in outputs[0].refusal.message and outputs[0].refusal.retry_after is None
    assert not engine.has_unfinished()


def test_generate_does_not_swallow_the_outputs_of_others(engine):
    engine.add_request([1, 2, 3], GREEDY, "mine")
    with pytest.raises(ValueError, match="1 requests of add_request have not ended"):
        engine.generate([[5, 6]], GREEDY)
    engine.abort("mine")
    assert engine.generate([[5, 6]], GREEDY)[0].finished


def test_a_request_ends_with_length_where_its_context_does(engine):
    [output] = engine.generate([[5] * 60], SamplingParams(max_tokens=100, temperature=0.0, ignore_eos=True))
    assert (output.finish_reason, len(output.token_ids)) == ("length", 4)


def test_stop_strings_end_a_request_of_the_shipped_model():
    engine = Engine.from_folder(folder("tiny"), EngineOptions(max_model_len=256))
    [whole] = engine.generate(["Once upon a time"], GREEDY)
    assert whole.text == engine.tokenizer.decode(whole.token_ids)
    cut = whole.text[len(whole.text) // 2 :][:3]
    [output] = engine.generate(["Once upon a time"], SamplingParams(max_tokens=12, temperature=0.0, ignore_eos=True, stop=cut))
    assert output.text == whole.text[: whole.text.index(cut)]
    assert (output.finish_reason, output.stop_reason) == ("stop", cut)


def test_a_cancelled_request_gives_its_blocks_back_at_once_and_the_others_go_on(engine):
    expected = engine.generate([[9, 8, 7]], GREEDY)[0].token_ids
    for _ in range(3):
        engine.add_request([9, 8, 7], GREEDY, "kept")
        engine.add_request([1] * 30, GREEDY, "dropped")
        engine.step()
        held = engine.scheduler.kv.pool.num_used
        output = engine.abort("dropped")
        assert output.finish_reason == "abort"
        assert engine.scheduler.kv.pool.num_used < held
        tokens = []
        while engine.has_unfinished():
            tokens += [token for output in engine.step() for token in output.token_ids]
        assert tokens == expected[1:]
    assert engine.abort("dropped") is None


def test_a_request_cancelled_while_it_waits_never_runs(engine):
    engine.add_request([1, 2, 3], GREEDY, "one")
    assert engine.abort("one").finish_reason == "abort"
    assert not engine.has_unfinished()


class Memory:
    """A recorder that keeps everything."""

    def __init__(self, header: Header) -> None:
        self.header, self.events, self.wants_snapshot = header, [], False

    def emit(self, event) -> None:
        self.events.append(event)


def test_the_trace_tells_every_token_and_block_and_a_late_reader_catches_up_by_snapshot(model_folder):
    from labkit.glassbox.tracing import make_header

    options = EngineOptions(block_size=4, num_gpu_blocks_override=14, max_model_len=48, max_num_seqs=4, max_num_batched_tokens=16)
    options.resolve(256)
    recorder = Memory(make_header(options, "llama", "cpu"))
    engine = Engine.from_folder(model_folder("llama"), options, recorder)
    for n in range(6):
        engine.add_request([5, 6, 7, 8, 9, n], GREEDY, f"r{n}")
    early, late = PoolState(recorder.header), None
    outputs: dict[str, list[int]] = {}
    while engine.has_unfinished():
        recorder.wants_snapshot = engine.step_number == 5
        if engine.step_number == 8:
            engine.abort("r5")
        for output in engine.step():
            outputs.setdefault(output.request_id, []).extend(output.token_ids)
        for event in recorder.events:
            if isinstance(event, Snapshot):
                late = PoolState(recorder.header)
            for state in filter(None, (early, late)):
                state.apply(event)
        steps = [event for event in recorder.events if isinstance(event, Step)]
        assert all(sum(step.scheduled.values()) <= 16 for step in steps)
        recorder.events.clear()
        tables = {name: request.block_table for name, request in engine.scheduler.requests.items()}
        assert {name: view.table for name, view in early.requests.items()} == tables
        if late is not None:
            assert {name: view.table for name, view in late.requests.items()} == tables
            assert late.counts() == early.counts()
    assert late is not None and early.preempted > 0 and early.finished == 6 and early.hit_tokens > 0
    assert early.sampled_tokens == sum(map(len, outputs.values()))
    assert early.usage == 0


def test_the_trace_of_a_step_that_fails_folds_to_an_empty_pool(model_folder, monkeypatch):
    from labkit.glassbox.tracing import make_header

    options = EngineOptions(**SMALL)
    options.resolve(256)
    recorder = Memory(make_header(options, "llama", "cpu"))
    engine = Engine.from_folder(model_folder("llama"), options, recorder)
    monkeypatch.setattr(engine.runner, "run", lambda plan: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        engine.generate([[1] * 9, [1] * 9], GREEDY)
    state = PoolState(recorder.header)
    for event in recorder.events:
        state.apply(event)
    assert state.finished == 2 and not state.requests and state.usage == 0
    assert state.counts()["cached"] == 0


def test_dummy_weights_serve_a_shape_without_a_checkpoint(model_folder, tmp_path):
    shutil.copy(model_folder("qwen3") / "config.json", tmp_path)
    drawn = SamplingParams(max_tokens=12, seed=3, ignore_eos=True)
    outputs = [
        Engine.from_folder(tmp_path, EngineOptions(load_format="dummy", seed=seed, **SMALL)).generate([[5, 6]], drawn)[0].token_ids
        for seed in (1, 1, 2)
    ]
    assert outputs[0] == outputs[1] != outputs[2]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"block_size": 0}, "--block-size must be at least 1, got 0"),
        (
            {"num_gpu_blocks_override": 3, "block_size": 16},
            "3 blocks x 16 tokens = 48 tokens; raise --num-gpu-blocks-override to 16, or lower --max-model-len to 48",
        ),
        ({"max_model_len": 999}, "--max-model-len 999 is more than the model's context of 256 tokens"),
        ({"max_num_batched_tokens": 4, "max_num_seqs": 8}, "--max-num-batched-tokens 4 is less than --max-num-seqs 8"),
        ({"enable_chunked_prefill": False, "max_num_batched_tokens": 200}, "must be at least --max-model-len 256"),
        ({"dtype": "int3"}, "--dtype must be one of auto, float32"),
        ({"device": "cuda"}, "torch finds no CUDA device"),
        ({"device": "abacus"}, "--device 'abacus'"),
        ({"load_format": "pickle"}, "--load-format must be"),
    ],
    ids=str,
)  # fmt: skip
def test_options_that_cannot_work_are_refused_with_cause_and_remedy(settings, message, model_folder):
    import torch

    if settings.get("device") == "cuda" and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(OptionsError, match=message):
        Engine.from_folder(model_folder("llama"), EngineOptions(**settings))


def test_a_pool_beyond_the_memory_is_refused_with_the_arithmetic(model_folder):
    message = r"100000000000 blocks x .* MiB = .* GiB, and .* are free; lower --num-gpu-blocks-override to \d+ or less"
    with pytest.raises(OutOfMemory, match=message):
        Engine.from_folder(model_folder("llama"), EngineOptions(num_gpu_blocks_override=100_000_000_000))


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ([], "the prompt is empty"),
        ([5] * 64, "the prompt has 64 tokens, and the context of 64 tokens must hold it and at least one output token; shorten .* to 63"),
        ([5, 211], "token id 211 is out of the vocabulary of 211 tokens"),
        ([-1], "token id -1 is out of the vocabulary"),
    ],
    ids=["empty", "long", "beyond", "negative"],
)
def test_prompts_that_cannot_be_served_are_refused(engine, prompt, message):
    with pytest.raises(ValueError, match=message):
        engine.add_request(prompt, GREEDY)
    assert not engine.has_unfinished()


def test_a_request_id_in_use_and_stop_strings_without_a_tokenizer_are_refused(engine):
    engine.add_request([1], GREEDY, "mine")
    with pytest.raises(ValueError, match="mine is already being served"):
        engine.add_request([1], GREEDY, "mine")
    engine.abort("mine")
    with pytest.raises(ValueError, match="stop strings need a tokenizer"):
        engine.add_request([1], SamplingParams(stop=["x"]))


def edit(path, **changes):
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({name: value for name, value in (config | changes).items() if value is not None}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: (path / "config.json").unlink(), "no model folder: it has no config.json"),
        (lambda path: (path / "config.json").write_text("{"), "cannot be read as JSON"),
        (lambda path: edit(path, architectures=["MambaForCausalLM"]), "architecture MambaForCausalLM is not one"),
        (lambda path: edit(path, quantization_config={"bits": 4}), "a quantized checkpoint"),
        (lambda path: edit(path, hidden_act="gelu"), "hidden_act 'gelu'"),
        (lambda path: edit(path, rope_scaling={"rope_type": "yarn"}), "rope scaling 'yarn'"),
        (lambda path: edit(path, hidden_size=None), "hidden_size should be a positive whole number"),
        (lambda path: edit(path, num_key_value_heads=3), "do not divide"),
        (lambda path: edit(path, intermediate_size=999), r"down_proj.weight has shape \[64, 112\], config.json says \[64, 999\]"),
        (lambda path: edit(path, num_hidden_layers=3), "weights of this shape are not in its safetensors"),
        (lambda path: (path / "model.safetensors").unlink(), "holds no \\*.safetensors: .* --load-format dummy"),
        (lambda path: (path / "model.safetensors").write_bytes(b"torn" * 9), "model.safetensors cannot be read"),
    ],
)  # fmt: skip
def test_a_damaged_model_folder_is_refused_with_cause_and_remedy(damage, message, model_folder, tmp_path):
    path = tmp_path / "model"
    shutil.copytree(model_folder("llama"), path)
    damage(path)
    with pytest.raises(ModelError, match=message):
        Engine.from_folder(path, EngineOptions())

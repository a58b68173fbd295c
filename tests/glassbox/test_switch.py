"""Quantizing a running engine: nobody is lost, tokens are those of an engine that started so, freed bytes are blocks to the last one."""
from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.bench.laws import Trial, make_case
from labkit.glassbox import Engine, EngineOptions
from labkit.glassbox.quantization import Quantization
from labkit.glassbox.tracing import make_header
from labkit.quantization.errors import QuantizationError
from labkit.trace import PoolState, Snapshot
from tests.glassbox.harness import Loop, scheduler_of
from tests.glassbox.quantized import Gaps, params, prompts, run
from tests.glassbox.test_engine import Memory

SMALL = dict(block_size=4, num_gpu_blocks_override=20, max_model_len=64, max_num_seqs=8, check_invariants=True)
SWITCHES = [
    {"method": "rtn", "bits": 4, "group_size": 16},
    {"method": "fp8", "kv_cache_dtype": "fp8"},
    {"method": "nf4", "kv_cache_dtype": "int8"},
    {"kv_cache_dtype": "fp8_e5m2"},
]
NEAR_TIE = 0.05  # of logits: the codes of a KV cache turn the last bit of a sum into a step


def options(**more) -> EngineOptions:
    return EngineOptions(**SMALL | more)


def started(switch: dict) -> dict:
    """The same as start options."""
    names = {"method": "quantization", "bits": "quantization_bits", "group_size": "quantization_group_size"}
    return {names.get(name, name): value for name, value in switch.items()}


@pytest.mark.parametrize("switch", SWITCHES, ids=str)
def test_tokens_after_a_switch_are_those_of_an_engine_that_started_so_and_got_prompt_and_output_so_far(switch, model_folder):
    folder, asked = model_folder("llama"), prompts(10, seed=2)
    engine = Engine.from_folder(folder, options())
    for number, prompt in enumerate(asked):
        engine.add_request(prompt, params(24), f"r{number}")
    before: dict[str, list[int]] = {}
    for _ in range(8):
        for output in engine.step():
            before.setdefault(output.request_id, []).extend(output.token_ids)
    running, finished = len(engine.scheduler.running), [name for name in before if name not in engine.scheduler.requests]
    assert running and engine.scheduler.waiting, "requests must be queued for blocks"
    changed = engine.quantize(**switch)
    assert changed.preempted == running and not engine.scheduler.running
    after = run(engine)
    fresh, compared = Engine.from_folder(folder, options(**started(switch), num_gpu_blocks_override=60)), 0
    gaps = Gaps(fresh)
    for number, prompt in enumerate(asked):
        name = f"r{number}"
        sofar = before.get(name, [])
        assert len(sofar) + len(after.get(name, [])) == 24, "nobody is lost"
        if name in finished:
            continue
        fresh.add_request(prompt + sofar, params(24 - len(sofar)), name)
        expected = run(fresh, limit=10_000)[name]
        clear = next((i for i, gap in enumerate(gaps.found[name]) if gap < NEAR_TIE), len(expected))
        assert after[name][:clear] == expected[:clear]
        compared += clear
    assert compared > 50


def test_freed_bytes_are_blocks_to_the_last_one_and_back_again_the_engine_is_what_it_was(model_folder):
    folder, asked = model_folder("llama"), prompts(6, seed=8)
    engine = Engine.from_folder(folder, options())
    parts = engine.runner.workshop.parts
    budget = parts.weight_bytes + 20 * parts.block_bytes
    first = [output.token_ids for output in engine.generate(asked, params(8))]
    for switch in SWITCHES:
        changed = engine.quantize(**switch)
        heads, dim, layers = 2, 16, 2
        each = 4 * 2 * heads * layers * (dim * 4 if changed.kv_cache_dtype == "auto" else dim + 2)
        assert changed.block_bytes_after == each
        assert changed.num_blocks_after == (budget - changed.weight_bytes_after) // each > 20
        assert 0 <= budget - changed.weight_bytes_after - changed.num_blocks_after * each < each
        kv = engine.runner.kv_cache
        assert all(layer.shape[0] == changed.num_blocks_after == engine.scheduler.kv.pool.num_blocks for layer in kv.layers)
        assert engine.options.num_gpu_blocks_override == changed.num_blocks_after
        engine.generate(asked, params(8))
    changed = engine.quantize("none", kv_cache_dtype="auto")
    assert (changed.num_blocks_after, changed.weight_bytes_after, changed.block_bytes_after) == (20, parts.weight_bytes, parts.block_bytes)
    assert [output.token_ids for output in engine.generate(asked, params(8))] == first


def test_more_requests_run_at_once_up_to_the_limit_that_was_there_or_is_given(model_folder):
    engine = Engine.from_folder(model_folder("llama"), options(max_num_seqs=6))
    for number in range(12):
        engine.add_request([5 + number] * 20, params(20), f"r{number}")
    engine.step()
    assert len(engine.scheduler.running) == 4  # 5 blocks each, 20 in all
    engine.quantize("rtn", 4, 16, kv_cache_dtype="int8")
    engine.step()
    assert len(engine.scheduler.running) == 6
    assert engine.quantize(max_num_seqs=10).max_num_seqs == 10
    engine.step()
    assert len(engine.scheduler.running) == 10
    assert all(len(tokens) >= 20 - 3 for tokens in run(engine).values())


def test_what_is_asked_for_twice_changes_nothing_and_preempts_nobody(model_folder):
    engine = Engine.from_folder(model_folder("llama"), options(quantization="fp8"))
    engine.add_request([5, 6, 7], params(6), "a")
    engine.step()
    model, blocks = engine.runner.model, engine.scheduler.requests["a"].block_table.copy()
    changed = engine.quantize("fp8", kv_cache_dtype="auto")
    assert changed.preempted == 0 and changed.num_blocks_after == changed.num_blocks_before == 20
    assert engine.runner.model is model and engine.scheduler.requests["a"].block_table == blocks
    engine.quantize(kv_cache_dtype="int8")
    assert engine.runner.model is model, "only the cache was asked for"


def test_the_trace_tells_the_growth_and_a_late_reader_catches_up_by_snapshot(model_folder):
    settings = options()
    settings.resolve(256)
    recorder = Memory(make_header(settings, "llama", "cpu"))
    engine = Engine.from_folder(model_folder("llama"), settings, recorder)
    for number, prompt in enumerate(prompts(8, seed=1)):
        engine.add_request(prompt, params(12), f"r{number}")
    early, late = PoolState(recorder.header), None
    switched = {6: {"method": "nf4", "kv_cache_dtype": "int8"}, 12: {"method": "none", "kv_cache_dtype": "auto"}}
    while engine.has_unfinished():
        number = engine.step_number
        if number in switched:
            engine.quantize(**switched.pop(number))
        recorder.wants_snapshot = number == 8
        engine.step()
        for event in recorder.events:
            if isinstance(event, Snapshot):
                late = PoolState(recorder.header)
            for state in filter(None, (early, late)):
                state.apply(event)
        recorder.events.clear()
        pool, cache = engine.scheduler.kv.pool, engine.scheduler.kv.prefix_cache
        for state in filter(None, (early, late)):
            assert state.num_blocks == pool.num_blocks == sum(state.counts().values())
            assert {name: view.table for name, view in state.requests.items()} == {
                name: request.block_table for name, request in engine.scheduler.requests.items()
            }
            assert state.counts()["cached"] == sum(cache.hash_of(block_id) is not None for block_id in pool.free_queue)
            assert state.usage == engine.scheduler.kv.usage
    assert not switched and late is not None and early.num_blocks == 20


@pytest.mark.parametrize(
    ("switch", "message"),
    [
        ({"method": "gtpq"}, "there is no quantization method 'gtpq'.* Did you mean 'gptq'"),
        ({"method": "rtn"}, "112 inputs do not divide into groups of 64"),
        ({"bits": 3}, "bits and group_size belong to a quantization method: give one"),
        ({"kv_cache_dtype": "fp4"}, "there is no kv_cache_dtype 'fp4'"),
        ({"max_num_seqs": 0}, "max_num_seqs 0 cannot be: give 2"),
        ({"method": "gptq", "group_size": 16}, "gptq needs a calibration text, and .* has no tokenizer.json"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_and_the_engine_goes_on_as_it_was(switch, message, model_folder):
    engine = Engine.from_folder(model_folder("llama"), options())
    for name in "ab":
        engine.add_request([5, 6, 7, ord(name)], params(10), name)
    engine.step()
    before = engine.runner.model, engine.runner.kv_cache, {name: list(r.block_table) for name, r in engine.scheduler.requests.items()}
    with pytest.raises(QuantizationError, match=message):
        engine.quantize(**switch)
    assert (engine.runner.model, engine.runner.kv_cache) == before[:2]
    assert {name: request.block_table for name, request in engine.scheduler.requests.items()} == before[2]
    assert {len(tokens) for tokens in run(engine).values()} == {9}


def test_a_pool_that_would_be_too_small_for_one_request_is_refused_with_the_arithmetic(model_folder):
    engine = Engine.from_folder(model_folder("llama"), options(quantization="nf4", num_gpu_blocks_override=16))
    message = r"weights of [\d,]+ bytes leave [\d,]+ of the engine's [\d,]+ .*needs 16. The pool cannot shrink"
    with pytest.raises(QuantizationError, match=message):
        engine.quantize("none")
    assert engine.quantize(kv_cache_dtype="int8").num_blocks_after > 16


def test_a_pool_gives_up_free_blocks_only():
    pool = scheduler_of().kv.pool
    held = pool.allocate(3)
    pool.resize(9)
    assert sorted([*pool.free_queue, *held]) == list(range(9)) and pool.num_used == 3
    pool.free([held[0]])
    with pytest.raises(ValueError, match="cannot shrink to 2 blocks: block 2 is held"):
        pool.resize(2)
    assert pool.num_blocks == 9
    pool.resize(3)
    assert list(pool.free_queue) == [0] and pool.num_used == 2 and len(pool.ref_count) == 3


@dataclass
class Bytes:
    """What `Parts` is to the arithmetic."""

    quantization: Quantization
    weight_bytes: int
    block_bytes: int = 8


class Weightless:
    """A workshop without weights: only their bytes are made."""

    def __init__(self) -> None:
        self.parts = self.prepare(Quantization())

    def prepare(self, wanted: Quantization) -> Bytes:
        return Bytes(wanted, 10 * (wanted.weight_bits or 32), 8 if wanted.kv_cache_dtype == "auto" else 3)


def switching(runner) -> None:
    """Let a `SlotRunner` be quantized: its slots are empty then, so that KV of before the switch shows as a wrong token."""
    runner.workshop = Weightless()

    def adopt(parts: Bytes, num_blocks: int) -> None:
        runner.workshop.parts = parts
        runner.slots.clear()

    runner.adopt = adopt


KINDS = [{"method": "none"}, {"method": "rtn"}, {"method": "fp8"}, {"kv_cache_dtype": "int8"}, {"kv_cache_dtype": "auto"}]


@st.composite
def plans(draw):
    case = make_case(lambda low, high: draw(st.integers(low, high)), "chunked")
    return case, draw(st.dictionaries(st.integers(0, 40), st.sampled_from(KINDS), max_size=5))


@settings(max_examples=200, deadline=None)
@given(plans())
def test_every_law_holds_after_every_step_however_often_the_engine_is_switched(plan):
    """`Trial` raises for any law, and for a request that is lost or whose tokens are not its own; the trace tells the pool."""
    case, switches = plan
    scheduler = case.scheduler()
    fold = Memory(make_header(replace(scheduler.options), "none", "cpu"))
    state = PoolState(fold.header)
    trial = Trial(case, scheduler, recorder=fold)
    switching(trial.runner)
    step, calls = trial.engine.step, iter(range(1 << 30))

    def watched():
        if (switch := switches.get(next(calls))) is not None:
            trial.engine.quantize(**switch)
        outputs = step()
        for event in fold.events:
            state.apply(event)
        fold.events.clear()
        assert state.num_blocks == scheduler.kv.pool.num_blocks
        assert {name: view.table for name, view in state.requests.items()} == {
            name: request.block_table for name, request in scheduler.requests.items()
        }
        return outputs

    trial.engine.step = watched
    trial.run()


def test_a_policy_that_does_not_preempt_is_quantized_only_while_nobody_runs():
    loop = Loop(scheduler_of("static", {"batch_size": 1, "max_batch_delay": 0}))
    switching(loop.runner)
    loop.add("a", [1, 2, 3], max_tokens=3)
    loop.step()
    with pytest.raises(QuantizationError, match="StaticScheduler does not preempt: 1 running requests would be lost"):
        loop.engine.quantize("fp8")
    loop.run()
    assert loop.finished["a"] == loop.alone([1, 2, 3], 3)
    assert loop.engine.quantize("fp8").num_blocks_after > 6


def test_tgi_counts_the_slots_of_the_pool_as_it_is_now():
    loop = Loop(scheduler_of("tgi"))
    switching(loop.runner)
    before = loop.scheduler.max_batch_total_tokens
    assert before == 24
    changed = loop.engine.quantize("fp8")
    assert loop.scheduler.max_batch_total_tokens == changed.num_blocks_after * 4 > before


def test_an_engine_without_weights_of_its_own_says_so():
    with pytest.raises(QuantizationError, match="has no weights of its own to quantize"):
        Loop(scheduler_of()).engine.quantize("fp8")

"""Quantizing a running engine otherwise, between two of its steps: freed bytes become KV blocks. Ids and counts only, no torch."""
from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from labkit.glassbox.plan import Plan
from labkit.glassbox.quantization import Switch
from labkit.quantization.errors import QuantizationError

if TYPE_CHECKING:
    from labkit.glassbox.engine import Engine
    from labkit.glassbox.workshop import Parts

Progress = Callable[[str, float], None]


def switch(engine: Engine, changes: dict[str, Any], max_num_seqs: int | None = None, progress: Progress | None = None) -> Switch:
    """Go on with other weights, another KV format, or both, in as many bytes as the engine had at its start. changes: arguments of
    `Quantization.changed`.

    Nobody is lost: whoever runs is preempted, as if the pool had run out, and computed again, prompt and output so far; the prefix cache is
    dropped, because it holds the KV of other weights. Raises `QuantizationError`, `ModelError`, `OptionsError` or `OutOfMemory` with
    nothing changed.
    """
    scheduler, workshop = engine.scheduler, getattr(engine.runner, "workshop", None)
    if workshop is None:
        raise QuantizationError("this engine's runner has no weights of its own to quantize: make the engine with Engine.from_folder")
    before, pool, began = workshop.parts, scheduler.kv.pool, engine.clock()
    wanted, old = before.quantization.changed(**changes), pool.num_blocks
    if max_num_seqs is not None:
        check_seats(engine, max_num_seqs, 0 if wanted != before.quantization else len(scheduler.running))
    if engine.byte_budget is None:
        engine.byte_budget = before.weight_bytes + old * before.block_bytes
    parts, preempted = before, 0
    if wanted != before.quantization:
        if scheduler.running and not scheduler.readmits:
            raise QuantizationError(
                f"the policy {type(scheduler).__name__} does not preempt: {len(scheduler.running)} running requests would be lost; "
                f"quantize while nobody runs, or serve with --policy chunked"
            )
        parts = workshop.prepare(wanted, *([] if progress is None else [progress]))
        num_blocks = (engine.byte_budget - parts.weight_bytes) // parts.block_bytes
        check_room(engine, parts, num_blocks)
        engine.runner.adopt(parts, num_blocks)
        preempted = empty(engine, num_blocks, began)
    if max_num_seqs is not None:
        scheduler.options.max_num_seqs = max_num_seqs
    quantization = parts.quantization
    return Switch(
        method=quantization.method or "none",
        bits=quantization.weight_bits,
        group_size=quantization.group_size,
        kv_cache_dtype=quantization.kv_cache_dtype,
        weight_bytes_before=before.weight_bytes,
        weight_bytes_after=parts.weight_bytes,
        block_bytes_before=before.block_bytes,
        block_bytes_after=parts.block_bytes,
        num_blocks_before=old,
        num_blocks_after=pool.num_blocks,
        preempted=preempted,
        max_num_seqs=scheduler.max_num_seqs,
        seconds=engine.clock() - began,
    )


def empty(engine: Engine, num_blocks: int, began: float) -> int:
    """Preempt everybody, forget every cached prefix, and make the pool `num_blocks` large; returns how many were preempted."""
    scheduler, plan = engine.scheduler, Plan()
    for request in reversed(scheduler.running.copy()):  # whoever was admitted first is first in the queue again
        scheduler.preempt(plan, request)
    scheduler.resize(num_blocks)
    engine.step_number += 1
    engine.tracer.step(engine.step_number, began, engine.clock(), plan, {}, {}, num_blocks)
    if engine.checker:
        engine.checker.check(engine.step_number)
    return len(plan.preempted)


def check_seats(engine: Engine, max_num_seqs: int, running: int) -> None:
    """Raises `QuantizationError` for a limit that the engine could not keep, with so many requests running."""
    scheduler = engine.scheduler
    if "max_num_seqs" not in scheduler.engine_options:
        raise QuantizationError(f"the policy {type(scheduler).__name__} has a limit of its own: leave max_num_seqs out")
    least, most = max(1, running), scheduler.max_num_batched_tokens
    if not isinstance(max_num_seqs, int) or not least <= max_num_seqs <= most:
        raise QuantizationError(
            f"max_num_seqs {max_num_seqs!r} cannot be: give {least} (requests that run now) to {most} (tokens of a step, one for each)"
        )


def check_room(engine: Engine, parts: Parts, num_blocks: int) -> None:
    """Raises `QuantizationError` where the pool would become too small for one request."""
    options = engine.options
    needed = -(-options.max_model_len // options.block_size)
    if num_blocks >= needed:
        return
    rest = max(0, engine.byte_budget - parts.weight_bytes)
    raise QuantizationError(
        f"weights of {parts.weight_bytes:,} bytes leave {rest:,} of the engine's {engine.byte_budget:,} for KV blocks: "
        f"{max(0, num_blocks)} of {parts.block_bytes:,} bytes, and one request of --max-model-len {options.max_model_len} needs {needed}. "
        f"The pool cannot shrink so far: take fewer bits for weights or KV cache, or start with more --num-gpu-blocks-override or a "
        f"smaller --max-model-len"
    )

"""The probe: vLLM's own scheduler, telling a `labkit.trace` recorder what it does. Runs inside vLLM's engine core.

vLLM loads it through `--scheduler-cls labkit.servers.vllm_probe.probed_scheduler`. What is told is read from the scheduler's
output and from its real block tables, never derived; a `Snapshot` holds the scheduler's whole state, so that a reader can
check the deltas against it. The engine is never held up: the recorder encodes and writes on its own thread, and a mistake in
here ends the probe, not the engine. Supported: models whose layers share one block table (all but hybrids).
"""
from __future__ import annotations

import os
import sys
import time
from collections import deque
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.scheduler import Scheduler

import labkit
from labkit.trace import Arrival, Header, Recorder, RequestState, Snapshot, Step


def probed_scheduler(vllm_config: Any, **arguments: Any) -> Scheduler:
    """The scheduler that vLLM would have taken for this configuration, with the probe in it."""
    kind = ProbedAsyncScheduler if vllm_config.scheduler_config.async_scheduling else ProbedScheduler
    return kind(vllm_config=vllm_config, **arguments)


class Probe:
    """Mixed into a vLLM scheduler. One `Step` per `schedule` and its `update_from_output`, in order."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._recorder: Recorder | None = None
        self._open: deque[tuple[Step, float]] = deque()  # scheduled, not yet executed, and when they were scheduled
        self._arrived: dict[str, Arrival] = {}
        self._finished: dict[str, str] = {}  # since the last step
        self._hashed: dict[str, int] = {}  # request -> blocks of its table that were seen to be cached
        self._shared: dict[str, int] = {}  # request -> blocks found in the prefix cache at its last admission
        self._arrival_times: dict[str, float] = {}
        self._parents: dict[str, str | None] = {}  # hash -> hash of the block before it
        self._steps = 0
        self._reset = False  # the prefix cache was emptied: only a snapshot can tell that
        self._guarded(self._begin)

    # what the scheduler does, told -----------------------------------------------------------------------------------
    def add_request(self, request: Any) -> None:
        super().add_request(request)
        self._guarded(self._note_arrival, request)

    def schedule(self, *args: Any, **kwargs: Any) -> Any:
        begin = time.perf_counter()
        output = super().schedule(*args, **kwargs)
        self._guarded(self._note_schedule, output, begin)
        return output

    def update_from_output(self, scheduler_output: Any, model_runner_output: Any) -> Any:
        outputs = super().update_from_output(scheduler_output, model_runner_output)
        self._guarded(self._note_outputs, outputs)
        return outputs

    def finish_requests(self, request_ids: Any, finished_status: Any) -> Any:
        ended = super().finish_requests(request_ids, finished_status)
        self._guarded(self._note_end, ended)
        return ended

    def reset_prefix_cache(self, *args: Any, **kwargs: Any) -> bool:
        self._reset = True
        return super().reset_prefix_cache(*args, **kwargs)

    def shutdown(self) -> None:
        super().shutdown()
        self._guarded(self._end)

    # how -------------------------------------------------------------------------------------------------------------
    def _guarded(self, function: Any, *args: Any) -> None:
        """Call, unless the probe is off. The engine goes on whatever happens."""
        if self._recorder is None and function != self._begin:
            return
        try:
            function(*args)
        except Exception as error:  # whatever it is, it must not reach the engine
            print(f"labkit: the probe has stopped: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            recorder, self._recorder = self._recorder, None
            if recorder is not None:
                recorder.close(timeout=0.5)

    def _begin(self) -> None:
        file, live = os.environ.get("LABKIT_TRACE_FILE"), os.environ.get("LABKIT_TRACE_SOCKET")
        managers = self.kv_cache_manager.coordinator.single_type_managers
        if not file and not live:
            return
        if len(managers) != 1:
            raise ValueError(f"this model has {len(managers)} kinds of KV cache; the probe follows one block table per request")
        if self.parallel_config.data_parallel_index:
            return  # one engine is told of: the first
        self._tables = managers[0].req_to_blocks
        self._num_cached = managers[0].num_cached_block
        self._pool = self.kv_cache_manager.block_pool
        self._every = int(os.environ.get("LABKIT_TRACE_SNAPSHOTS", "0"))  # steps between snapshots that nobody asked for: for checks
        self._origin = time.perf_counter()
        header = self._header(time.perf_counter_ns())
        self._recorder = Recorder(header, Path(file) if file else None, Path(live) if live else None)

    def _header(self, origin: int) -> Header:
        import torch
        import vllm

        model, cache, scheduling = self.vllm_config.model_config, self.cache_config, self.scheduler_config
        configuration = {
            "block_size": self.block_size, "num_blocks": self._pool.num_gpu_blocks, "null_blocks": 1,
            "max_num_seqs": self.max_num_running_reqs, "max_num_batched_tokens": scheduling.max_num_batched_tokens,
            "max_model_len": self.max_model_len, "enable_prefix_caching": bool(cache.enable_prefix_caching),
            "enable_chunked_prefill": bool(scheduling.enable_chunked_prefill), "async_scheduling": bool(scheduling.async_scheduling),
            "policy": scheduling.policy, "dtype": str(model.dtype).removeprefix("torch."),
        }
        gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
        hardware = {"cpu": _cpu(), "cores": os.cpu_count(), "gpu": gpu}
        versions = {"labkit": labkit.__version__, "vllm": vllm.__version__, "torch": str(torch.__version__), "python": sys.version.split()[0]}
        return Header("vllm", "live", versions, Path(model.model).name, configuration, hardware, model.seed,
                      datetime.now(UTC).astimezone().isoformat(timespec="seconds"), origin, os.environ.get("LABKIT_TRACE_NAME", "vLLM"))

    def _now(self) -> float:
        return time.perf_counter() - self._origin

    def _note_arrival(self, request: Any) -> None:
        tokens = list(request.prompt_token_ids or ())
        arrival = Arrival(request.num_prompt_tokens, request.max_tokens, round(self._now(), 6), tokens)
        self._arrived[request.request_id] = arrival
        self._arrival_times[request.request_id] = arrival.t

    def _note_schedule(self, output: Any, begin: float) -> None:
        step = Step(0, 0.0, 0.0, arrived=self._arrived, scheduled=output.num_scheduled_tokens)
        self._arrived = {}
        step.finished, self._finished = self._finished, {}
        for name in output.preempted_req_ids or ():
            step.preempted.append(name)
            self._hashed.pop(name, None)
        for new in output.scheduled_new_reqs:
            self._admit(step, new.req_id, new.block_ids[0], new.num_computed_tokens)
        cached = output.scheduled_cached_reqs
        for name, blocks, computed in zip(cached.req_ids, cached.new_block_ids, cached.num_computed_tokens, strict=True):
            if name in cached.resumed_req_ids:
                self._admit(step, name, blocks[0], computed)
            elif blocks is not None and blocks[0]:
                step.given[name] = blocks[0]
        hashed, cached_blocks = self._hashed, self._num_cached
        for name in output.num_scheduled_tokens:
            if cached_blocks.get(name, 0) > hashed.get(name, 0):
                self._note_hashes(step, name)
        self._open.append((step, begin))

    def _admit(self, step: Step, name: str, blocks: list[int], computed: int) -> None:
        hits = computed // self.block_size
        if hits:
            step.shared[name] = blocks[:hits]
        if blocks[hits:]:
            step.given[name] = blocks[hits:]
        self._hashed[name] = self._shared[name] = hits

    def _note_hashes(self, step: Step, name: str) -> None:
        """Blocks of the request's table that the prefix cache has taken up since it was last looked at."""
        seen, now = self._hashed.get(name, 0), self._num_cached.get(name, 0)
        table = self._tables[name]
        for logical in range(seen, now):
            block = table[logical]
            if block.block_hash is not None:
                parent = _short(table[logical - 1].block_hash) if logical else None
                own = _short(block.block_hash)
                self._parents[own] = parent
                step.hashed.append((block.block_id, own, parent))
        self._hashed[name] = now

    def _note_outputs(self, outputs: dict[int, Any]) -> None:
        step, begin = self._open.popleft()
        for group in outputs.values():
            for output in group.outputs:
                if output.new_token_ids:
                    step.sampled[output.request_id] = output.new_token_ids
                if output.finish_reason is not None:
                    step.finished[output.request_id] = str(output.finish_reason)
        if not self._open:  # a later step that is already scheduled may still use what has ended since
            step.finished.update(self._finished)
            self._finished = {}
        for name in step.finished:
            for known in (self._hashed, self._shared, self._arrival_times):
                known.pop(name, None)
        if step.scheduled or step.arrived or step.finished or step.preempted:  # vLLM also steps to tell its workers what has ended
            self._emit(step, begin)

    def _note_end(self, ended: list[Any]) -> None:
        for request in ended:
            self._finished[request.request_id] = str(request.get_finished_reason())

    def _emit(self, step: Step, begin: float) -> None:
        now = time.perf_counter()
        step.step, self._steps = self._steps, self._steps + 1
        step.t, step.ms = round(now - self._origin, 6), round(1000 * (now - begin), 3)
        step.running, step.waiting = self.get_request_counts()
        self._recorder.emit(step)
        due = self._every and step.step % self._every == 0
        if (self._recorder.wants_snapshot or self._reset or due) and not self._open:
            self._reset = False
            self._recorder.emit(self._snapshot(step.step, step.t))

    def _snapshot(self, step: int, t: float) -> Snapshot:
        """The scheduler's state, read from itself."""
        requests = {}
        for name, r in self.requests.items():
            if name in self._arrived:
                continue  # told of with the next step
            table = [block.block_id for block in self._tables.get(name, ())]
            requests[name] = RequestState(r.num_prompt_tokens, r.max_tokens, r.num_computed_tokens, table, list(r.all_token_ids),
                                          "running" if r.status.name == "RUNNING" else "waiting", self._arrival_times.get(name, 0.0),
                                          r.num_preemptions, self._shared.get(name, 0) if table else 0)
        cached = [(block.block_id, _short(block.block_hash)) for block in self._pool.blocks if block.block_hash is not None]
        self._parents = {own: self._parents.get(own) for _, own in cached}
        running, waiting = self.get_request_counts()
        return Snapshot(step, t, requests, [(block, own, self._parents[own]) for block, own in cached], waiting, running)

    def _end(self) -> None:
        if self._finished and not self._open:
            self._emit(Step(0, 0.0, 0.0, finished=self._finished), time.perf_counter())
        self._recorder.emit(self._snapshot(max(0, self._steps - 1), round(self._now(), 6)))
        self._recorder.close()


class ProbedScheduler(Probe, Scheduler):
    """For engines that run one step at a time: every CPU."""


class ProbedAsyncScheduler(Probe, AsyncScheduler):
    """For engines that schedule the next step while one executes. Blocks fill, and are cached, when tokens come back."""

    def _update_request_with_output(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        result = super()._update_request_with_output(request, *args, **kwargs)
        if self._open:
            self._guarded(self._note_hashes, self._open[0][0], request.request_id)
        return result


def _short(block_hash: bytes) -> str:
    """Sixteen hexadecimal digits of a block's hash (the last four bytes, the cache group, left out)."""
    return block_hash[:-4][:8].hex()


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")

"""The engine's side of the trace: one `Step` per engine step, written as deltas."""
from __future__ import annotations

import os
import platform
import time
from dataclasses import asdict
from datetime import datetime
from importlib.metadata import version
from typing import Protocol

import labkit
from labkit.glassbox.options import EngineOptions
from labkit.glassbox.plan import Plan
from labkit.glassbox.policies import policy_name
from labkit.glassbox.request import Request, RequestStatus
from labkit.glassbox.scheduler import Scheduler
from labkit.trace.events import Arrival, Event, Header, RequestState, Snapshot, Step


class RecorderLike(Protocol):
    """What the engine asks of `labkit.trace.Recorder`."""

    header: Header
    wants_snapshot: bool

    def emit(self, event: Event) -> None: ...


class Tracer:
    """Collects what happens to a scheduler and emits it. Times are seconds since the header's clock origin."""

    def __init__(self, recorder: RecorderLike, scheduler: Scheduler) -> None:
        self.recorder, self.scheduler = recorder, scheduler
        self.origin = recorder.header.clock_origin / 1e9
        self.arrived: dict[str, Arrival] = {}

    @property
    def has_news(self) -> bool:
        """Whether something has arrived that no step has told of yet."""
        return bool(self.arrived)

    def arrive(self, request: Request) -> None:
        self.arrived[request.request_id] = Arrival(
            request.num_prompt_tokens, request.params.max_tokens, request.arrival - self.origin, list(request.token_ids)
        )

    def step(
        self,
        number: int,
        began: float,
        ended: float,
        plan: Plan,
        sampled: dict[str, int],
        finished: dict[str, str],
        num_blocks: int = 0,
    ) -> None:
        """`began`, `ended`: perf_counter seconds. An empty plan tells what happened between steps. num_blocks: of a pool made anew."""
        self.recorder.emit(
            Step(
                step=number,
                t=ended - self.origin,
                ms=(ended - began) * 1e3,
                arrived=self.arrived,
                scheduled=plan.num_scheduled_tokens,
                shared=plan.shared,
                given=plan.given,
                hashed=self.scheduler.kv.take_hashed(),
                sampled={request_id: [token_id] for request_id, token_id in sampled.items()},
                preempted=[request.request_id for request in plan.preempted],
                finished=finished,
                padding=plan.padding,
                held=[request.request_id for request in self.scheduler.held if request.request_id in finished],
                released=self.scheduler.take_released(),
                waiting=len(self.scheduler.waiting),
                running=len(self.scheduler.running),
                num_blocks=num_blocks,
            )
        )
        self.arrived = {}
        if self.recorder.wants_snapshot:
            self.recorder.emit(self._snapshot(number, ended))

    def _snapshot(self, number: int, ended: float) -> Snapshot:
        requests = {
            request.request_id: RequestState(
                prompt=request.num_prompt_tokens,
                max_tokens=request.params.max_tokens,
                computed=request.num_computed_tokens,
                table=list(request.block_table),
                token_ids=list(request.token_ids),
                status="held" if request.status is RequestStatus.FINISHED else request.status.value,
                t=request.arrival - self.origin,
                preemptions=request.num_preemptions,
                shared=request.num_shared_blocks,
            )
            for request in [*self.scheduler.requests.values(), *self.scheduler.held]
        }
        cached = self.scheduler.kv.prefix_cache.entries()
        waiting, running = len(self.scheduler.waiting), len(self.scheduler.running)
        return Snapshot(number, ended - self.origin, requests, cached, waiting, running, num_blocks=self.scheduler.kv.pool.num_blocks)


class NoTracer:
    """The off-switch. What the scheduler has to tell is still taken, so that nothing piles up."""

    has_news = False

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler

    def arrive(self, request: Request) -> None:
        return None

    def step(
        self,
        number: int,
        began: float,
        ended: float,
        plan: Plan,
        sampled: dict[str, int],
        finished: dict[str, str],
        num_blocks: int = 0,
    ) -> None:
        self.scheduler.kv.take_hashed()
        self.scheduler.take_released()


def make_header(options: EngineOptions, model: str, device: str, name: str = "") -> Header:
    """The header of a glass box run that starts now. `options` must be resolved."""
    versions = {"labkit": labkit.__version__, "torch": version("torch"), "python": platform.python_version()}
    configuration = {**asdict(options), "policy": policy_name(options.policy)}
    configuration |= {"num_blocks": options.num_gpu_blocks_override, "null_blocks": 0}
    hardware = {"machine": platform.machine(), "cores": os.cpu_count(), "device": device}
    return Header(
        source="glassbox",
        badge="live",
        versions=versions,
        model=model,
        configuration=configuration,
        hardware=hardware,
        seed=options.seed,
        started=datetime.now().astimezone().isoformat(timespec="milliseconds"),
        clock_origin=time.perf_counter_ns(),
        name=name,
    )

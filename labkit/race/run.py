"""`lab.race`: every policy on the same requests, with the same pool, on one clock."""
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from labkit.glassbox.model_config import ModelConfig
from labkit.glassbox.options import EngineOptions
from labkit.glassbox.tracing import make_header
from labkit.models.registry import folder
from labkit.race.clock import CostClock, CostRunner, RealClock
from labkit.race.contestant import Contestant, Entry, check_served, contestants, rule
from labkit.race.racer import Feed, Racer
from labkit.race.result import RaceResult
from labkit.race.step_cost import StepCost
from labkit.race.workload import Workload
from labkit.trace import Event, Step

if TYPE_CHECKING:
    from labkit.views import RaceView


def race(
    policies: Entry | Iterable[Entry] | Mapping[str, Entry],
    workload: Workload | None = None,
    *,
    num_blocks: int = 100,
    block_size: int = 16,
    max_num_seqs: int = 16,
    max_num_batched_tokens: int = 256,
    enable_prefix_caching: bool = True,
    check_invariants: bool = True,
    clock: str | StepCost = "real",
    model: str = "tiny",
    show: bool = True,
    progress: bool = False,
    seed: int = 0,
) -> RaceResult:
    """Race batching policies: names ("static", "dynamic", "tgi", "continuous", "chunked"), classes that derive from `Scheduler`, or
    (one of these, {parameter: value}), in a list, or in a mapping that names them.

    clock "real": one after the other, each with the real model in real time. A `StepCost`, or "cost" (which fits one first, some
    seconds): all in lockstep on a clock that moves as far as each step costs; results then bear the badge "stand-in".
    All get the same pool; everything else is as the policy's server has it by default, and `max_num_seqs` and `max_num_batched_tokens`
    are for those that know them. show: the live view of the race, in a notebook. progress: a line on stderr.

    A policy that breaks a law while it races, or raises anything, is out: `result.broken` says which law, at which step, and of whom; the
    others go on. Once the last request has come, all are told that they are `draining`: those who wait for a batch to fill up start. An
    interrupt ends the race and gives back what there is. Raises `OptionsError` for a policy or a parameter that there is not,
    `WorkloadError` with the arithmetic for a workload that could never be served, and ValueError for more policies than a view shows (6).
    """
    workload = workload or Workload.make(requests=10, rate=10.0, seed=seed)
    entrants = contestants(policies)
    path = folder(model)
    config = ModelConfig.from_folder(path)
    context = min(config.max_position_embeddings, num_blocks * block_size)
    workload.check(num_blocks, block_size, config.max_position_embeddings)
    options = EngineOptions(
        block_size=block_size, num_gpu_blocks_override=num_blocks, max_num_seqs=max_num_seqs, max_model_len=context, seed=seed,
        max_num_batched_tokens=max_num_batched_tokens, enable_prefix_caching=enable_prefix_caching, check_invariants=check_invariants,
    )
    options.resolve(context)
    schedulers = {entrant.name: entrant.scheduler(options) for entrant in entrants}
    for entrant in entrants:
        check_served(entrant.name, schedulers[entrant.name], workload)
    if clock == "cost":
        from labkit.race.calibration import calibrate

        clock = calibrate(model)
    elif clock != "real" and not isinstance(clock, StepCost):
        raise ValueError(f"clock is {clock!r}: there are 'real', 'cost', and a StepCost that was fitted before")
    titles = {entrant.name: rule(schedulers[entrant.name], entrant.policy) for entrant in entrants}
    field = Field(entrants, schedulers, titles, workload, options, model, clock)
    with _watched(field, show, progress) as tell:
        complete = field.in_lockstep(tell, config.vocab_size) if isinstance(clock, StepCost) else field.one_by_one(tell, path)
    return field.result(complete)


@dataclass(slots=True)
class Field:
    """Everything of one race."""

    entrants: list[Contestant]
    schedulers: dict[str, Any]
    titles: dict[str, str]
    workload: Workload
    options: EngineOptions
    model: str
    clock: str | StepCost
    view: RaceView | None = None
    racers: dict[str, Racer] | None = None

    def in_lockstep(self, tell: Callable[[str, Event], None], vocab_size: int) -> bool:
        """On the step-cost clock: whoever is furthest behind makes the next step."""
        self.racers = {}
        for entrant in self.entrants:
            clock = CostClock()
            self._enter(entrant, CostRunner(self.clock, clock, vocab_size), clock, tell)
        racing = list(self.racers.values())
        try:
            while racing:
                last = min(racing, key=lambda racer: racer.now)
                if not last.advance():
                    racing.remove(last)
        except KeyboardInterrupt:
            return False
        return True

    def one_by_one(self, tell: Callable[[str, Event], None], path: Any) -> bool:
        """In real time, with one model whose pool is every policy's in turn."""
        from labkit.glassbox.build import build_runner
        from labkit.glassbox.warm_up import warm_up
        from labkit.race.calibration import undisturbed

        self.racers = {}
        try:
            runner, _ = build_runner(path, self.options)
            with undisturbed():
                warm_up(runner, self.options)
                for entrant in self.entrants:
                    racer = self._enter(entrant, runner, RealClock(), tell)
                    while racer.advance():
                        pass
        except KeyboardInterrupt:
            return False
        return True

    def _enter(self, entrant: Contestant, runner: Any, clock: RealClock | CostClock, tell: Callable[[str, Event], None]) -> Racer:
        scheduler = self.schedulers[entrant.name]
        header = make_header(scheduler.options, self.model, self.options.device, entrant.name)
        cuts = "enable_chunked_prefill" in scheduler.engine_options and scheduler.options.enable_chunked_prefill
        cuts = cuts or getattr(scheduler, "prefill_chunking", False)  # TGI's own name for it
        header.configuration |= {"rule": self.titles[entrant.name], "enable_chunked_prefill": cuts, "max_num_seqs": scheduler.max_num_seqs,
                                 "max_num_batched_tokens": scheduler.max_num_batched_tokens}  # the policy's own, where it has them
        if isinstance(self.clock, StepCost):
            header = replace(header, badge="stand-in", name="step-cost clock", clock_origin=0)
        else:
            header = replace(header, clock_origin=int(clock.origin * 1e9))
        racer = Racer(scheduler, runner, self.workload, clock, Feed(header, lambda event: tell(entrant.name, event)))
        self.racers[entrant.name] = racer
        tell(entrant.name, header)
        return racer

    def result(self, complete: bool) -> RaceResult:
        racers = self.racers or {}
        return RaceResult(
            runs={name: racer.run for name, racer in racers.items()},
            broken={name: racer.broken for name, racer in racers.items() if racer.broken is not None},
            titles=self.titles,
            workload=self.workload,
            clock="real" if isinstance(self.clock, str) else self.clock,
            complete=complete,
            view=self.view,
        )


@contextmanager
def _watched(field: Field, show: bool, progress: bool) -> Iterator[Callable[[str, Event], None]]:
    """Whom the racers tell their events: the view in the notebook, and a line of progress."""
    from tqdm.auto import tqdm

    names = [entrant.name for entrant in field.entrants]
    if show:
        from labkit.views import RaceView

        field.view = RaceView(names, field.titles, requests=[f"r{n}" for n in range(len(field.workload))])
        field.view.display()
    with tqdm(total=len(names) * len(field.workload), unit="request", disable=not progress, dynamic_ncols=True) as bar:
        def tell(name: str, event: Event) -> None:
            if field.view is not None:
                field.view.feed(name, event)
            if isinstance(event, Step) and event.finished:
                bar.set_postfix_str(name, refresh=False)
                bar.update(len(event.finished))

        try:
            yield tell
        finally:
            if field.view is not None:
                field.view.end()

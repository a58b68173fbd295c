"""`lab.load`: plan a run, have it executed, give back what it says."""
from __future__ import annotations

import hashlib
import json
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from importlib.metadata import version
from typing import Any, Self

import labkit
from labkit.clients.exchange import Request
from labkit.load import arrivals as schedules
from labkit.load.arrivals import Arrivals
from labkit.load.health import Health
from labkit.load.metrics import is_good
from labkit.load.process import execute
from labkit.load.prompts import Lengths, Prompts, fixed
from labkit.load.record import Progress, Record
from labkit.load.result import LoadResult

CLIENT = ("aiohttp", "uvloop")  # the packages whose versions can change the times
CONCURRENCY = 8  # of the closed loop that runs when neither a rate nor a concurrency is asked for


def load(
    server: Any,
    requests: int = 32,
    rate: float | None = None,
    concurrency: int | None = None,
    seed: int = 0,
    *,
    prompts: Prompts | Sequence[str | list] | None = None,
    max_tokens: Lengths | None = None,
    arrivals: Arrivals | None = None,
    temperature: float = 0.0,
    extra: Mapping[str, Any] | None = None,
    objectives: Mapping[str, float] | None = None,
    model: str | None = None,
    request_timeout: float = 120.0,
    timeout: float = 600.0,
    progress: bool = True,
    on_progress: Callable[[Progress], None] | None = None,
) -> LoadResult:
    """Send `requests` to `server` (a Server or a URL) over the OpenAI protocol, streaming, and measure every answer.

    `rate` (requests per second) sends at Poisson arrivals whatever the server does; `concurrency` alone keeps so many users busy; both
    together limit the requests in flight, and the wait for a slot counts in "TTFT, from schedule". `arrivals` takes any other schedule of
    `labkit.load.arrivals`. `prompts` is a list (texts, token ids, chat messages) or a `Prompts` distribution; `max_tokens` a number or a
    (low, high) range. `extra` goes into each request's body as it is, by the server's own names ({"ignore_eos": True}; {"return_token_ids":
    None} for a server that refuses that field, which tells how many tokens each event brought). `objectives` are upper limits in
    milliseconds for goodput ({"ttft": 500, "tpot": 35}). Times are in seconds.

    A failed request becomes a record with a named cause. Raises `LoadError` at once if nobody answers, ValueError for a plan that makes no
    sense. An interrupt stops the run and gives back the records so far.
    """
    arrivals = _arrivals(requests, rate, concurrency, seed, arrivals)
    asked = _requests(prompts, requests, max_tokens, temperature, dict(extra or {}), seed)
    objectives = dict(objectives or {})
    is_good(Record(), objectives)  # an unknown name fails now, not after the run
    plan = {
        "url": str(getattr(server, "url", server)), "model": model, "requests": [asdict(request) for request in asked],
        "times": arrivals.times, "concurrency": arrivals.concurrency, "request_timeout": request_timeout, "timeout": timeout,
    }
    started = datetime.now().astimezone().isoformat(timespec="seconds")
    with _Bar(requests, shown=progress) as bar:
        def show(state: Progress) -> None:
            bar.show(state)
            if on_progress is not None:
                on_progress(state)

        outcome = execute(plan, show)
    described = asdict(prompts) if isinstance(prompts, Prompts) else "default" if prompts is None else f"{len(prompts)} given"
    return LoadResult(
        records=outcome.records,
        requests=requests,
        server={"url": plan["url"], "model": outcome.model, "name": getattr(server, "name", None), "badge": getattr(server, "badge", None)},
        configuration={
            "arrivals": {"name": arrivals.name, "concurrency": arrivals.concurrency, **arrivals.parameters}, "prompts": _plain(described),
            "max_tokens": _plain(max_tokens), "temperature": temperature, "extra": dict(extra or {}), "request_timeout": request_timeout,
            "timeout": timeout,
        },
        seed=seed,
        trace_hash=trace_hash(arrivals, asked),
        client=Health.of(outcome.records, outcome.lags, outcome.cpu),
        origin=outcome.origin,
        reason=outcome.reason,
        started=started,
        hardware=hardware(),
        versions={"labkit": labkit.__version__, "python": platform.python_version()} | {name: version(name) for name in CLIENT},
        objectives=objectives,
    )


def _arrivals(requests: int, rate: float | None, concurrency: int | None, seed: int, given: Arrivals | None) -> Arrivals:
    if given is not None:
        if rate is not None or concurrency is not None:
            raise ValueError("give either arrivals, or a rate and a concurrency: the schedule says both already")
        if given.times is not None and len(given.times) != requests:
            raise ValueError(f"the schedule has {len(given.times)} arrivals for {requests} requests: say requests={len(given.times)}")
        return given
    if requests < 1:
        raise ValueError(f"{requests} requests: ask for at least 1")
    if concurrency is not None:
        schedules.closed(concurrency)  # checks it
    if rate is not None:
        return schedules.poisson(rate, requests, seed, concurrency)
    return schedules.closed(concurrency or CONCURRENCY)


def _requests(prompts: Any, n: int, max_tokens: Lengths | None, temperature: float, extra: dict[str, Any], seed: int) -> list[Request]:
    if isinstance(prompts, str):
        prompts = [prompts]
    if prompts is None:
        prompts = Prompts(max_tokens=32 if max_tokens is None else max_tokens, temperature=temperature)
    if isinstance(prompts, Prompts):
        requests = prompts.draw(n, seed)
    else:
        requests = fixed(prompts, n, 32 if max_tokens is None else max_tokens, temperature, seed)
    for request in requests:
        request.extra = extra
    return requests


def trace_hash(arrivals: Arrivals, requests: list[Request]) -> str:
    """What was asked and when, in 16 hexadecimal digits."""
    text = json.dumps([arrivals.times, arrivals.concurrency, [asdict(request) for request in requests]], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def hardware() -> dict[str, Any]:
    """The machine that made the load; on one host, also the server's."""
    from labkit.environments.machine import cpu, gpus, memory

    return {"cpu": cpu().name, "cores": cpu().cores, "instruction_sets": cpu().instruction_sets, "memory_bytes": memory().total,
            "gpus": [gpu.name for gpu in gpus()], "platform": platform.platform()}


def _plain(value: Any) -> Any:
    """JSON for what may hold a function of a random number generator."""
    return json.loads(json.dumps(value, default=repr))


class _Bar:
    """A progress bar: a widget in a notebook, a line on stderr elsewhere, nothing when not `shown`."""

    def __init__(self, requests: int, shown: bool):
        from tqdm.auto import tqdm

        every = 0.1 if sys.stderr.isatty() else 2.0  # a log file wants a few lines, not hundreds
        self._bar = tqdm(total=requests, unit="request", disable=not shown, file=sys.stderr, mininterval=every, dynamic_ncols=True)

    def show(self, state: Progress) -> None:
        self._bar.update(state.done - self._bar.n)
        failed = f", {state.failed} failed" if state.failed else ""
        self._bar.set_postfix_str(f"{state.sent - state.done} in flight, {state.tokens} tokens{failed}", refresh=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

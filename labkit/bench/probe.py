"""Whether the vLLM probe tells the truth, and what it costs."""
from __future__ import annotations

import json
import os
import statistics
import sys
import threading
from collections import defaultdict

from labkit.bench.report import parser, write
from labkit.servers import Server, serve
from labkit.trace import PoolState, Run, Snapshot, Step, read

MARK = "labkit probe times: "  # begins a line of `timed_probe`, which only vLLM's environment can import

STOCK = "vllm.v1.core.sched.scheduler.Scheduler"  # what vLLM takes on a CPU when nothing is said
STREAMS, TOKENS = 32, 64  # of one throughput run: short, so that the two of a pair meet the same machine
SCRAPE_EVERY = 0.02  # seconds


def main(argv: list[str]) -> int:
    """Compare the traced KV usage with vLLM's own metric at every scrape, and throughput with and without the probe."""
    parse = parser("probe", main.__doc__)
    parse.add_argument("--requests", type=int, default=96, help="of the load under which usage is compared")
    parse.add_argument("--rounds", type=int, default=2, help="fresh servers for each")
    parse.add_argument("--quartets", type=int, default=15, help="of runs in each round: with, without, without, with, or the reverse")
    options = parse.parse_args(argv)
    result = {"truth": truth(options.requests), "own_time": own_time(), "cost": cost(options.rounds, options.quartets)}
    write("probe", ["probe", *argv], options, result)
    return 0 if result["truth"]["unequal"] == 0 else 1


def truth(requests: int) -> dict:
    """Scrape while a pool that is too small for its load preempts, shares and frees."""
    from labkit.load.prompts import Prompts
    from labkit.load.run import load

    os.environ["LABKIT_TRACE_SNAPSHOTS"] = "20"
    with serve("vllm", num_gpu_blocks_override=80, max_num_seqs=16, share=False) as server:
        prompts = Prompts(length=(64, 200), max_tokens=(16, 160), shared_prefix=0.5, kind="ids")
        with Scraper(server) as scraper:
            load(server, requests=requests, concurrency=24, seed=1, prompts=prompts, extra={"ignore_eos": True}, progress=False)
    del os.environ["LABKIT_TRACE_SNAPSHOTS"]
    run = read(server.run_file)
    same, unequal = compare(run, scraper.samples)
    snapshots, wrong = check_snapshots(run)
    state = run.state_at(run.steps)
    return {"scrapes": len(scraper.samples), "equal_in_the_same_iteration": same, "unequal": len(unequal), "first_unequal": unequal[:3],
            "distinct_usages": len({usage for _, usage in scraper.samples}), "snapshots": snapshots, "snapshots_unequal": wrong,
            "steps": run.steps, "preempted": state.preempted, "hit_tokens": state.hit_tokens}


class Scraper:
    """Reads /metrics again and again: (engine iterations that vLLM has counted, KV usage), of one moment each."""

    def __init__(self, server: Server):
        self.server = server
        self.samples: list[tuple[int, float]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._stop.wait(SCRAPE_EVERY):
            self.scrape()

    def scrape(self) -> None:
        metrics = self.server.metrics()
        self.samples.append((int(metrics["vllm:iteration_tokens_total_count"]), metrics["vllm:kv_cache_usage_perc"]))

    def __enter__(self) -> Scraper:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def compare(run: Run, samples: list[tuple[int, float]]) -> tuple[int, list[tuple[int, float, list[float]]]]:
    """How many samples equal the state folded from the trace after the same iteration, and those that cannot be any that it may be.

    vLLM counts an iteration when a step gives tokens back, in the same breath as it sets its usage; a step that gives none back
    (a chunk of a prefill) sets the usage alone. So the nth count belongs to the nth step with tokens and those after it. It
    answers /metrics on a thread, though, and reads the usage a little before the count: rarely, the usage is that of an iteration
    since the count of the sample before, or of the one whose count is still to come.
    """
    expected: dict[int, list[float]] = defaultdict(list, {0: [0.0]})
    state, count = PoolState(run.header), 0
    for event in run.events:
        state.apply(event)
        if isinstance(event, Step):
            count += bool(event.sampled)
            expected[count].append(state.usage)

    def among(usage: float, *counts: int) -> bool:
        return any(abs(usage - each) < 1e-9 for near in counts for each in expected[near])

    same = sum(among(usage, count) for count, usage in samples)
    before = [0, *(count for count, _ in samples)]
    unequal = [(count, usage, expected[count]) for known, (count, usage) in zip(before, samples, strict=False)
               if not among(usage, *range(known, count + 2))]
    return same, unequal


def check_snapshots(run: Run) -> tuple[int, int]:
    """How many snapshots, read from the scheduler's own tables, there are, and how many differ from the state folded from the steps."""
    state, seen, wrong = PoolState(run.header), 0, 0
    for event in run.events:
        if isinstance(event, Snapshot):
            folded = state.snapshot()
            seen += 1
            wrong += folded.requests != event.requests or sorted(folded.cached) != sorted(event.cached)
        else:
            state.apply(event)  # never a snapshot: every step from the first one on is under test
    return seen, wrong


def own_time(runs: int = 12) -> dict:
    """CPU time that the probe takes for itself, by its own stopwatch (`timed_probe`), over the time of a step under full load.

    What it takes from vLLM's throughput is at most this, as if nothing of it fell into the time in which the process waits for its worker.
    """
    with serve("vllm", share=False, scheduler_cls="labkit.bench.timed_probe.timed_scheduler") as server:
        throughput(server, seed=0)  # warms up
        before, done = stopwatch(server), [throughput(server, seed=1 + run) for run in range(runs)]
        after = stopwatch(server)
    steps = after["steps"] - before["steps"]
    spent = {part: 1e6 * (after[f"{part}_s"] - before[f"{part}_s"]) / steps for part in ("scheduler", "recorder")}
    step = statistics.median(1e6 * STREAMS / tokens_per_s for tokens_per_s in done)
    return {"steps": steps, "scheduler_us_per_step": round(spent["scheduler"], 1), "recorder_us_per_step": round(spent["recorder"], 1),
            "step_us": round(step), "share": round(sum(spent.values()) / step, 4)}


def stopwatch(server: Server) -> dict:
    """The newest line of the stopwatch in the server's log."""
    lines = [line for line in server.log.read_text().splitlines() if MARK in line]
    return json.loads(lines[-1].split(MARK)[1])


def cost(rounds: int, quartets: int) -> dict:
    """Throughput with the probe over that without, on two servers that are alike but for it, started anew each round.

    A quartet is with, without, without, with, or the reverse: what comes from the order of two runs cancels out, and so does a machine
    that drifts. Its ratio is the two with over the two without.
    """
    speeds: dict[str, list[float]] = {"with": [], "without": []}
    for _ in range(rounds):
        with serve("vllm", share=False) as probed, serve("vllm", share=False, scheduler_cls=STOCK) as stock:
            servers = {"with": probed, "without": stock}
            for server in servers.values():
                throughput(server, seed=0)  # warms up
            for quartet in range(quartets):
                first, second = ("with", "without") if quartet % 2 else ("without", "with")
                for place, way in enumerate((first, second, second, first)):
                    speeds[way].append(throughput(servers[way], seed=1 + 2 * quartet + place // 2))
                print(*(f"{done[-1]:.0f} tok/s {way}" for way, done in speeds.items()), sep=", ", file=sys.stderr, flush=True)
    sums = {way: [sum(pair) for pair in zip(figures[::2], figures[1::2], strict=True)] for way, figures in speeds.items()}
    ratios = [a / b for a, b in zip(sums["with"], sums["without"], strict=True)]
    error = round(statistics.stdev(ratios) / len(ratios) ** 0.5, 4) if len(ratios) > 1 else None
    return {"ratio": round(statistics.median(ratios), 4), "mean_ratio": round(statistics.mean(ratios), 4), "standard_error": error,
            "ratios": [round(ratio, 4) for ratio in ratios],
            "tokens_per_s": {way: [round(figure, 1) for figure in figures] for way, figures in speeds.items()}}


def throughput(server: Server, seed: int) -> float:
    """Tokens per second of one closed loop."""
    from labkit.load.run import load

    return load(server, STREAMS, concurrency=STREAMS, seed=seed, max_tokens=TOKENS, extra={"ignore_eos": True}, progress=False).throughput

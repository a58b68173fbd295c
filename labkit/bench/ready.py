"""How long each server takes until it can serve."""
from __future__ import annotations

import os
import statistics
import sys

from labkit.bench.report import parser, write
from labkit.servers import serve


def main(argv: list[str]) -> int:
    """Start a server several times, one after the other; for vLLM also as it starts out of the box."""
    parse = parser("ready", main.__doc__)
    parse.add_argument("--server", default="glassbox")
    parse.add_argument("--times", type=int, default=5)
    options = parse.parse_args(argv)
    ways = {"labkit": {}} | ({"out of the box": {"LABKIT_VLLM_FORK": "0"}} if options.server == "vllm" else {})
    result = {}
    for way, environment in ways.items():
        os.environ.update(environment)
        starts = [start(options.server) for _ in range(options.times)]
        for name in environment:
            del os.environ[name]
        result[way] = {"seconds": [s["seconds"] for s in starts], "median": statistics.median(s["seconds"] for s in starts),
                       "phases": starts[-1]["phases"], "stop_seconds": [s["stop_seconds"] for s in starts]}
        print(f"{options.server}, {way}: ready after {result[way]['median']:.1f} s (median of {options.times})", file=sys.stderr)
    write(f"ready-{options.server}", ["ready", *argv], options, {"server": options.server, "starts": result})
    return 0


def start(name: str) -> dict:
    """Seconds until ready (from the server's first instruction), its phases, and the seconds that stopping took."""
    import time

    server = serve(name, share=False, progress=False)
    begin = time.monotonic()
    server.stop()
    return {"seconds": server.ready_after, "phases": server.startup, "stop_seconds": round(time.monotonic() - begin, 2)}

"""What this machine can do at most: bandwidths and arithmetic, for each number of threads."""
from __future__ import annotations

import os
import sys
from dataclasses import asdict

from labkit.bench.report import parser, write


def main(argv: list[str]) -> int:
    """Measure memory bandwidth (large arrays, and as many bytes as the weights of a model) and the rate of matrix products."""
    from labkit.environments.bfloat16 import proven
    from labkit.environments.machine import cpu
    from labkit.models.shapes import shapes
    from labkit.planning import measure, work

    parse = parser("machine", main.__doc__)
    parse.add_argument("--shape", default="tiny", choices=shapes(), help="the model whose weights are read again and again (default: tiny)")
    parse.add_argument("--threads", type=int, nargs="+", help="default: 1, 2, 4, ... up to the cores that this process may use")
    options = parse.parse_args(argv)
    counts = options.threads or counting(int(cpu().cores))
    dtypes = ("float32", "bfloat16") if proven() else ("float32",)
    working_set = work(shapes()[options.shape], [(0, 1)]).weights
    results, busy = [], os.getloadavg()[0]  # others' work makes every ceiling look lower than it is
    for threads in counts:
        found = measure(working_set, threads=threads, dtypes=dtypes, seconds=min(1.0, 2.0 / len(counts)))
        results.append(asdict(found))
        rates = ", ".join(f"{rate.best / 1e9:.0f} GFLOP/s {dtype}" for dtype, rate in found.matmul.items())
        print(f"{threads} threads: {found.read.best / 1e9:.1f} GB/s from memory, {found.cached_read.best / 1e9:.1f} GB/s from "
              f"{working_set / 1e6:.0f} MB, {rates}", file=sys.stderr)
    write("machine", ["machine", *argv], options, {"shape": options.shape, "load_average": busy, "ceilings": results})
    return 0


def counting(cores: int) -> list[int]:
    """1, 2, 4, ... and `cores`."""
    counts = {max(1, cores)}
    n = 1
    while n < cores:
        counts.add(n)
        n *= 2
    return sorted(counts)

"""What a machine can do at most, measured: bytes per second out of memory and out of the caches, FLOPs per second of a matrix product."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter

LARGE = 1 << 29  # bytes of an array that no cache holds
SQUARE = 1024  # rows of the multiplied matrices
SCALAR = 3.0
ROUNDS = 4

Task = tuple[Callable[[], object], int]  # something to try, and how many bytes or FLOPs it is


@dataclass(slots=True, frozen=True)
class Rate:
    """Per second. `best` is the shortest of many tries, so what the machine can do; `median` is what it did while others used it too."""

    best: float
    median: float


@dataclass(slots=True, frozen=True)
class Ceilings:
    """Of one device with one number of threads (0: a GPU). Bandwidths in bytes/s, arithmetic in FLOP/s.

    `read` adds up an array of `LARGE` bytes; `triad` is STREAM's a = b + s c over as many, 12 bytes counted for each element (McCalpin,
    https://www.cs.virginia.edu/stream/). The `cached_` ones do the same over `working_set` bytes, again and again: where those fit into
    the last cache this is the cache's bandwidth.
    """

    device: str
    threads: int
    working_set: int
    read: Rate
    triad: Rate
    cached_read: Rate
    cached_triad: Rate
    matmul: dict[str, Rate]  # by dtype; of the fastest product that is at hand

    def bandwidth(self, working_set: int) -> float:
        """Bytes/s at which `working_set` bytes can be read, step after step: the cache's, if the measured working set was not smaller."""
        return max(self.read.best, self.cached_read.best) if working_set <= self.working_set else self.read.best

    def flops(self, dtype: str = "float32") -> float:
        return self.matmul[dtype].best


def measure(working_set: int, *, threads: int | None = None, dtypes: Sequence[str] = ("float32",), device: str = "cpu",
            seconds: float = 0.35) -> Ceilings:
    """Try each ceiling for `seconds` in all, in turns, so that somebody else's moment of work does not hide one of them; about 2 s in all.

    `threads` None: torch's present number, to which it returns. bfloat16 kills the process on CPUs that only pretend to have it: see
    `labkit.environments.bfloat16` before asking for it.
    """
    import torch

    before = torch.get_num_threads()
    try:
        if threads is not None and device == "cpu":
            torch.set_num_threads(threads)
        products = [(dtype, task) for dtype in dtypes for task in _matmuls(dtype, device)]
        tasks = [*_bandwidths(LARGE, device), *_bandwidths(working_set, device), *(task for _, task in products)]
        times: list[list[float]] = [[] for _ in tasks]
        for _ in range(ROUNDS):
            for (work, _), found in zip(tasks, times, strict=True):
                found += _times(work, device, seconds / ROUNDS)
        rates = [Rate(amount / min(found), amount / median(found)) for (_, amount), found in zip(tasks, times, strict=True)]
        tried = list(zip((dtype for dtype, _ in products), rates[4:], strict=True))
        matmul = {dtype: max((rate for kind, rate in tried if kind == dtype), key=lambda rate: rate.best) for dtype in dtypes}
        return Ceilings(device, torch.get_num_threads() if device == "cpu" else 0, working_set, *rates[:4], matmul)
    finally:
        torch.set_num_threads(before)


def _bandwidths(size: int, device: str) -> list[Task]:
    """Reading `size` bytes, and a triad whose three arrays have `size` bytes together."""
    import torch

    data = torch.ones(size // 4, device=device)
    third = len(data) // 3
    a, b, c = data[:third], data[third : 2 * third], data[2 * third : 3 * third]
    return [(data.sum, 4 * len(data)), (lambda: torch.add(b, c, alpha=SCALAR, out=a), 12 * third)]


def _matmuls(dtype: str, device: str) -> list[Task]:
    """The product of two square matrices by torch; in float32 on a CPU also by the lab's kernel, which is faster on some."""
    import torch

    rows = SQUARE if device == "cpu" else 8 * SQUARE
    left, right = (torch.randn(rows, rows, device=device).to(getattr(torch, dtype)) for _ in range(2))
    product = torch.empty_like(left)
    tasks: list[Task] = [(lambda: torch.mm(left, right, out=product), 2 * rows**3)]
    if device == "cpu" and dtype == "float32":
        from labkit.glassbox.kernels.linear import pack
        from labkit.glassbox.packed_linear import multiply

        panels = pack(right.numpy())
        tasks.append((lambda: multiply(left.numpy(), panels, product.numpy(), torch.get_num_threads()), 2 * rows**3))
    return tasks


def _times(work: Callable[[], object], device: str, seconds: float) -> list[float]:
    """How long `work` took each time, after a try that does not count; at least twice."""
    import torch

    finish = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
    work()
    finish()
    times: list[float] = []
    end = perf_counter() + seconds
    while perf_counter() < end or len(times) < 2:
        begin = perf_counter()
        work()
        finish()
        times.append(perf_counter() - begin)
    return times

"""What a machine can do at most, measured: bytes per second out of memory and out of the caches, FLOPs per second of a matrix product."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter

LARGE = 1 << 29  # bytes of an array that no cache holds
SQUARE = 1024  # rows of the multiplied matrices
SCALAR = 3.0


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
    matmul: dict[str, Rate]  # by dtype

    def bandwidth(self, working_set: int) -> float:
        """Bytes/s at which `working_set` bytes can be read, step after step: the cache's, if the measured working set was not smaller."""
        return max(self.read.best, self.cached_read.best) if working_set <= self.working_set else self.read.best

    def flops(self, dtype: str = "float32") -> float:
        return self.matmul[dtype].best


def measure(working_set: int, *, threads: int | None = None, dtypes: Sequence[str] = ("float32",), device: str = "cpu",
            seconds: float = 0.35) -> Ceilings:
    """Try each ceiling for `seconds`; about 2 s in all. `threads` None: torch's present number, to which it returns.

    bfloat16 kills the process on CPUs that only pretend to have it: see `labkit.environments.bfloat16` before asking for it.
    """
    import torch

    before = torch.get_num_threads()
    try:
        if threads is not None and device == "cpu":
            torch.set_num_threads(threads)
        large, small = (_bandwidths(size, device, seconds) for size in (LARGE, working_set))
        matmul = {dtype: _matmul(getattr(torch, dtype), device, seconds) for dtype in dtypes}
        return Ceilings(device, torch.get_num_threads() if device == "cpu" else 0, working_set, *large, *small, matmul)
    finally:
        torch.set_num_threads(before)


def _bandwidths(size: int, device: str, seconds: float) -> tuple[Rate, Rate]:
    """Of reading `size` bytes, and of a triad whose three arrays have `size` bytes together."""
    import torch

    data = torch.ones(size // 4, device=device)
    third = len(data) // 3
    a, b, c = data[:third], data[third : 2 * third], data[2 * third : 3 * third]
    read = _rate(data.sum, 4 * len(data), device, seconds)
    return read, _rate(lambda: torch.add(b, c, alpha=SCALAR, out=a), 12 * third, device, seconds)


def _matmul(dtype, device: str, seconds: float) -> Rate:
    import torch

    rows = SQUARE if device == "cpu" else 8 * SQUARE
    left, right = (torch.randn(rows, rows, device=device).to(dtype) for _ in range(2))
    product = torch.empty_like(left)
    return _rate(lambda: torch.mm(left, right, out=product), 2 * rows**3, device, seconds)


def _rate(work: Callable[[], object], amount: float, device: str, seconds: float) -> Rate:
    """`amount` per second of `work`, after two tries that do not count."""
    import torch

    finish = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
    times: list[float] = []
    for _ in range(2):
        work()
    finish()
    end = perf_counter() + seconds
    while perf_counter() < end or len(times) < 3:
        begin = perf_counter()
        work()
        finish()
        times.append(perf_counter() - begin)
    times.sort()
    return Rate(amount / times[0], amount / times[len(times) // 2])

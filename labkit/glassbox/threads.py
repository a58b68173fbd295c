"""How many CPU threads compute a step.

Threads that share a step wait for the last of them, which HTTP or a client may hold up. So for decodes of a small model one core is left
to those; prompts and large models, whose steps take long, get all of them.
"""
from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import torch

WORK = 2 << 30  # bytes of weights times tokens of a step that make it worth all cores


class Threads:
    """As many as torch was told to use; the choice for a program that does nothing else."""

    def use(self, num_tokens: int) -> int:
        """Before a step of so many tokens: how many compute it."""
        return torch.get_num_threads()


class SharedCores(Threads):
    """For an engine that has its clients on the same machine. weight_bytes: that a step reads."""

    def __init__(self, weight_bytes: int) -> None:
        self.all, self.weight_bytes = torch.get_num_threads(), weight_bytes
        self.few = max(1, self.all - 1)

    def use(self, num_tokens: int) -> int:
        torch.set_num_threads(self.all if num_tokens * self.weight_bytes >= WORK else self.few)
        return torch.get_num_threads()


def choose(device: torch.device, weight_bytes: int) -> Threads:
    """What suits a server: OMP_NUM_THREADS, or a GPU, leaves nothing to choose."""
    return Threads() if device.type != "cpu" or "OMP_NUM_THREADS" in os.environ else SharedCores(weight_bytes)


@cache
def helpers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(1, (os.cpu_count() or 1) - 1), "labkit-helper")


def together(part: Callable[..., None], arguments: Sequence[tuple]) -> None:
    """part(*each) of all arguments at the same time, the first on this thread. For kernels that need no interpreter."""
    first, *others = arguments
    helping = [helpers().submit(part, *other) for other in others]
    part(*first)
    for help in helping:
        help.result()


def share(sizes: Sequence[int], parts: int) -> list[tuple[int, int]]:
    """Things of these sizes as `parts` ranges of them or fewer, one after the other, of about the same size together."""
    ends = np.cumsum(sizes)
    nearest = np.searchsorted(ends, [ends[-1] * i / parts for i in range(1, parts)]) + 1
    bounds = np.unique([0, *nearest, len(ends)])
    return list(zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True))

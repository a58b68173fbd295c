"""How many CPU threads compute a step.

A decode's matrix products are small: their threads would meet some hundred times a step, and each meeting waits for the last one, which
HTTP or a client may hold up. So one core is left to those, and a prompt, whose products are large, gets all of them.
"""
from __future__ import annotations

import os

import torch

MANY = 48  # tokens of a step that make it worth all cores


class Threads:
    """As many as torch was told to use; the choice for a program that does nothing else."""

    def use(self, num_tokens: int) -> int:
        """Before a step of so many tokens: how many compute it."""
        return torch.get_num_threads()


class SharedCores(Threads):
    """For an engine that has its clients on the same machine."""

    def __init__(self) -> None:
        self.all = torch.get_num_threads()
        self.few = max(1, self.all - 1)

    def use(self, num_tokens: int) -> int:
        torch.set_num_threads(self.all if num_tokens >= MANY else self.few)
        return torch.get_num_threads()


def choose(device: torch.device) -> Threads:
    """What suits a server: OMP_NUM_THREADS, or a GPU, leaves nothing to choose."""
    return Threads() if device.type != "cpu" or "OMP_NUM_THREADS" in os.environ else SharedCores()

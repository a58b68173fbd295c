"""The probe with a stopwatch, for `labkit bench probe`: loaded by vLLM, it counts the CPU time that the probe takes from vLLM's process."""
from __future__ import annotations

import json
import sys
import time
from typing import Any

from labkit.bench.probe import MARK
from labkit.servers.vllm_probe import ProbedScheduler

EVERY = 50  # steps between two lines in the log


class TimedScheduler(ProbedScheduler):
    """On the scheduler's thread: all that the probe does there. On the recorder's: encoding and writing."""

    _spent = 0  # ns

    def _guarded(self, function: Any, *args: Any) -> None:
        began = time.thread_time_ns()
        super()._guarded(function, *args)
        self._spent += time.thread_time_ns() - began

    def _emit(self, step: Any, begin: float) -> None:
        super()._emit(step, begin)
        if self._steps % EVERY == 0:
            recorder = time.clock_gettime(time.pthread_getcpuclockid(self._recorder._thread.ident))
            told = {"steps": self._steps, "scheduler_s": self._spent / 1e9, "recorder_s": recorder}
            print(MARK + json.dumps(told), file=sys.stderr, flush=True)


def timed_scheduler(vllm_config: Any, **arguments: Any) -> TimedScheduler:
    return TimedScheduler(vllm_config=vllm_config, **arguments)

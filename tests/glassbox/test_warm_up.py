"""What is warm is not compiled again while somebody waits."""
from __future__ import annotations

import subprocess
import sys

import pytest

from labkit.glassbox import EngineOptions
from labkit.glassbox.build import build_runner
from labkit.glassbox.warm_up import warm_up
from labkit.models import folder

PROGRAM = """
import torch
from labkit.glassbox import Engine, SamplingParams
from labkit.glassbox.kernels.linear import linear
from labkit.glassbox.kernels.paged import paged_attention
from labkit.glassbox.kernels.step import forward
from labkit.glassbox.warm_up import warm_up
from labkit.models import folder

kernels = (linear, paged_attention, forward)
engine = Engine.from_folder(folder("tiny"))
warm_up(engine.runner, engine.options)
warm = [list(kernel.signatures) for kernel in kernels]
served = {"whole": 0, "layers": 0}
serves = engine.runner.whole.serves
def watched(batch, threads):
    answer = serves(batch, threads)
    served["whole" if answer else "layers"] += 1
    return answer
engine.runner.whole.serves = watched
for threads in (1, 2):
    torch.set_num_threads(threads)
    for lengths in ([3], [400], [3, 300], [40] * 20):
        engine.generate([[threads] * length for length in lengths], SamplingParams(max_tokens=3, temperature=0.0, ignore_eos=True))
assert min(served.values()) > 0, served
for kernel, before in zip(kernels, warm):
    assert before and kernel.signatures == before, (kernel.__name__, kernel.signatures, before)
"""


def test_after_a_warm_up_no_step_has_a_kernel_to_compile_or_to_load():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("max_model_len", [2, 3, 10])
def test_a_context_as_small_as_any_is_warmed_up_too_and_the_runner_computes_as_before(max_model_len):
    options = EngineOptions(max_model_len=max_model_len)
    runner, _ = build_runner(folder("tiny"), options)
    whole = runner.whole
    warm_up(runner, options)
    assert whole is not None and runner.whole is whole

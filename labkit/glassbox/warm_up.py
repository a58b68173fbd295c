"""`warm_up`: first calls are slow. Kernels are compiled or loaded, memory is touched for the first time."""
from __future__ import annotations

from labkit.glassbox.engine import Engine
from labkit.glassbox.options import EngineOptions
from labkit.glassbox.policies import make_scheduler
from labkit.glassbox.runner import ModelRunner
from labkit.glassbox.sampling_params import SamplingParams

LENGTHS = (1, 8, 24, 24)  # tokens of prompts


def warm_up(runner: ModelRunner, options: EngineOptions) -> None:
    """Some prompts and decodes that no trace and no metric sees, in both ways that the runner computes a step: whole, and layer by layer.

    For a runner whose pool nobody uses yet.
    """
    params = SamplingParams(max_tokens=min(2, options.max_model_len - 1), temperature=0.0, ignore_eos=True, detokenize=False)
    prompts = [[0] * min(length, options.max_model_len - params.max_tokens) for length in LENGTHS]
    whole = runner.whole
    try:
        for runner.whole in (whole, None):
            Engine(make_scheduler("chunked", options), runner).generate(prompts, params)
    finally:
        runner.whole = whole

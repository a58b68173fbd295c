"""The engine: requests in, `step()` until they are done, tokens out. One thread, one clock, no HTTP."""
from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from time import perf_counter
from typing import Protocol

from labkit.glassbox.detokenizer import Detokenizer
from labkit.glassbox.invariants import Checker, InvariantError
from labkit.glassbox.options import EngineOptions
from labkit.glassbox.outputs import RequestOutput
from labkit.glassbox.plan import Plan
from labkit.glassbox.policies import make_scheduler
from labkit.glassbox.quantization import Switch
from labkit.glassbox.refusal import Refusal
from labkit.glassbox.request import Request, check_prompt
from labkit.glassbox.sampling_params import SamplingParams
from labkit.glassbox.scheduler import Scheduler
from labkit.glassbox.switch import Progress, switch
from labkit.glassbox.tokenizer import Tokenizer
from labkit.glassbox.tracing import NoTracer, RecorderLike, Tracer

DECODES = 1 << 16  # of a few tokens each, that are remembered


class RunnerLike(Protocol):
    """What the engine asks of a runner: `runner.ModelRunner`, or `slot_runner.SlotRunner` where no model is wanted."""

    vocab_size: int

    def run(self, plan: Plan) -> dict[str, int]:
        """Compute the plan's tokens, padding included; returns the next token id of each request in `plan.sampling`."""


class Engine:
    """A batching policy over a paged KV cache. Make one with `from_folder`, or from parts to try out your own.

    All times are `clock()`'s, in seconds. `wait_until` is set after a step that had nothing to do, see `Plan`.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        runner: RunnerLike,
        eos_token_ids: Sequence[int] = (),
        tokenizer: Tokenizer | None = None,
        recorder: RecorderLike | None = None,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self.scheduler, self.runner, self.tokenizer = scheduler, runner, tokenizer
        self.options = scheduler.options
        self.eos_token_ids = frozenset(eos_token_ids)
        self.tracer = Tracer(recorder, scheduler) if recorder is not None else NoTracer(scheduler)
        self.checker = Checker(scheduler) if self.options.check_invariants else None
        self.clock = clock
        self.wait_until: float | None = None
        self.step_number = 0
        self.num_step_tokens = 0  # computed in the latest step
        self.byte_budget: int | None = None  # of weights and KV pool together, as at the start; known from the first `quantize` on
        self._decoders = {skip: self._decoder(skip) for skip in (True, False)}
        self._names = itertools.count()
        self._seeds = random.Random(self.options.seed)

    @classmethod
    def from_folder(
        cls,
        path: str | Path,
        options: EngineOptions | None = None,
        recorder: RecorderLike | None = None,
        scheduler: Scheduler | None = None,
    ) -> Engine:
        """Load a checkpoint; `options` is resolved in place. Raises `ModelError`, `OptionsError` or `OutOfMemory`: cause and remedy.

        A `scheduler` brings its own options; without one, `options.policy` is made.
        """
        from labkit.glassbox.build import build_runner

        path, options = Path(path), scheduler.options if scheduler else options or EngineOptions()
        runner, config = build_runner(path, options)
        tokenizer = Tokenizer(path) if (path / "tokenizer.json").exists() else None
        scheduler = scheduler or make_scheduler(options.policy, options, **options.policy_parameters)
        return cls(scheduler, runner, config.eos_token_ids, tokenizer, recorder)

    def add_request(
        self, prompt_token_ids: Sequence[int], params: SamplingParams | None = None, request_id: str | None = None, priority: int = 0
    ) -> str:
        """Queue a prompt; returns the request's id. Raises `ValueError` for a prompt that is empty, unknown to the model or too long
        (`Unservable`: for this policy), for stop tokens that the model has not, and `Overloaded` when the policy turns it away now.

        `max_tokens` beyond the context is allowed: the request then ends with "length" where the context does.
        """
        params = params or SamplingParams()
        request_id = request_id if request_id is not None else f"request-{next(self._names)}"
        if request_id in self.scheduler.requests:
            raise ValueError(f"request {request_id} is already being served")
        check_prompt(prompt_token_ids, self.options.max_model_len, self.runner.vocab_size)
        params.check_vocabulary(self.runner.vocab_size)
        if params.stop and self.tokenizer is None:
            raise ValueError("stop strings need a tokenizer, and this model's folder has none; use stop_token_ids")
        request = Request(request_id, list(prompt_token_ids), params, arrival=self.clock(), priority=priority)
        if self.tokenizer is not None and params.detokenize:
            request.detokenizer = Detokenizer(self._decoders[params.skip_special_tokens], request.token_ids, params)
        if params.seed is None and request.generator:  # the same requests in the same order draw the same tokens in every run
            request.generator.seed(self._seeds.getrandbits(64))
        if (refusal := self.scheduler.refuses(request)) is not None:
            self._turn_away(request, refusal)
        self.scheduler.add(request)
        self.tracer.arrive(request)
        return request_id

    def step(self) -> list[RequestOutput]:
        """Schedule, compute, sample: one token more for every request that has its prompt computed.

        A step that fails or is interrupted while it computes ends its requests: what their blocks hold is not known.
        """
        began = self.clock()
        self.step_number += 1
        plan = self.scheduler.schedule(began)
        self.wait_until = plan.wait_until
        if self.checker:
            self.checker.check_plan(plan, self.step_number, began)
        if not plan.requests:
            return self._pause(plan, began)
        sampling, self.num_step_tokens = plan.sampling, plan.total_num_scheduled_tokens
        for request in plan.requests:
            if request.first_scheduled is None:
                request.first_scheduled = began
        try:
            sampled = self.runner.run(plan)
        except BaseException:
            self._drop(plan, began)
            raise
        self.scheduler.advance(plan)
        ended = self.clock()
        outputs = [self._output(request, [], "", began) for request in plan.refused]
        outputs += [self._append(request, sampled[request.request_id], ended) for request in sampling]
        finished = {output.request_id: output.finish_reason for output in outputs if output.finished}
        self.tracer.step(self.step_number, began, ended, plan, sampled, finished)
        if self.checker:
            self.checker.check(self.step_number)
        return outputs

    def abort(self, request_id: str) -> RequestOutput | None:
        """End a request now and free its blocks. None if it has ended already."""
        request = self.scheduler.requests.get(request_id)
        if request is None:
            return None
        now = self.clock()
        self.step_number += 1
        self.scheduler.finish(request, "abort")
        self.tracer.step(self.step_number, now, now, Plan(), {}, {request_id: "abort"})
        return self._output(request, [], request.detokenizer.flush() if request.detokenizer else "", now)

    def quantize(
        self,
        method: str | None = None,
        bits: int | None = None,
        group_size: int | None = None,
        kv_cache_dtype: str | None = None,
        calibration_rows: int | None = None,
        max_num_seqs: int | None = None,
        progress: Progress | None = None,
    ) -> Switch:
        """Between two steps: quantize the checkpoint's weights by `method` ("none": not at all), the KV cache to `kv_cache_dtype`, or both;
        None leaves things as they are. What that frees becomes KV blocks. See `switch`; tokens to come are those of an engine that started
        so and was given prompt and output so far. `max_num_seqs`: another limit of requests at once."""
        changes = {
            "method": method, "bits": bits, "group_size": group_size, "kv_cache_dtype": kv_cache_dtype, "calibration_rows": calibration_rows
        }  # fmt: skip
        return switch(self, changes, max_num_seqs, progress)

    def has_unfinished(self) -> bool:
        return self.scheduler.has_unfinished()

    def generate(
        self, prompts: Sequence[str | Sequence[int]], params: SamplingParams | Sequence[SamplingParams] | None = None
    ) -> list[RequestOutput]:
        """Serve prompts (texts or token ids) to their end; outputs are whole and in the order of the prompts. Raises `ValueError` while
        there are requests of `add_request`, whose outputs would be lost."""
        if self.has_unfinished():
            number = len(self.scheduler.requests)
            raise ValueError(f"{number} requests of add_request have not ended: step() until they have, or abort them")
        each = [params] * len(prompts) if params is None or isinstance(params, SamplingParams) else params
        whole: dict[str, RequestOutput | None] = {}
        try:
            for prompt, prompt_params in zip(prompts, each, strict=True):
                token_ids = self.tokenizer.encode(prompt) if isinstance(prompt, str) else prompt
                whole[self.add_request(token_ids, prompt_params)] = None
            self.scheduler.draining = True
            while any(output is None or not output.finished for output in whole.values()):
                for output in self.step():
                    if output.request_id in whole:
                        if whole[output.request_id] is None:
                            whole[output.request_id] = output
                        else:
                            whole[output.request_id].merge(output)
        finally:
            self.scheduler.draining = False
            for request_id in whole:  # nothing is left of a call that could not go to its end
                self.abort(request_id)
        return list(whole.values())

    def _drop(self, plan: Plan, began: float) -> None:
        """End the requests of a plan that was not computed, and forget the blocks that it was to fill."""
        self.scheduler.kv.forget_hashed()
        self.tracer.step(self.step_number, began, self.clock(), plan, {}, {request.request_id: "refused" for request in plan.refused})
        for request in plan.requests:
            self.abort(request.request_id)

    def _pause(self, plan: Plan, now: float) -> list[RequestOutput]:
        """A step without work: tell what has happened since the last one."""
        if self.scheduler.has_unfinished() and (plan.wait_until is None or self.scheduler.draining):
            what = "nothing more will arrive" if self.scheduler.draining else "no time given until which to wait"
            raise InvariantError("progress", self.step_number, f"nothing scheduled, and {what}")
        self.num_step_tokens = 0
        outputs = [self._output(request, [], "", now) for request in plan.refused]
        if outputs or self.tracer.has_news:
            self.tracer.step(self.step_number, now, now, plan, {}, {output.request_id: output.finish_reason for output in outputs})
        return outputs

    def _turn_away(self, request: Request, refusal: Refusal) -> None:
        """Tell of a request that is not even queued, and raise."""
        self.step_number += 1
        self.tracer.arrive(request)
        self.tracer.step(self.step_number, request.arrival, request.arrival, Plan(), {}, {request.request_id: "refused"})
        raise refusal.error()

    def _append(self, request: Request, token_id: int, now: float) -> RequestOutput:
        """Give a request its next token, and end it if that was the last."""
        request.token_ids.append(token_id)
        reason, stop_reason, text = self._stops(request, token_id), None, ""
        if request.detokenizer:
            is_shown = reason != "stop" or request.params.include_stop_str_in_output  # a token that stops is not part of the text
            text, stop_string = request.detokenizer.append(token_id) if is_shown else ("", None)
            if stop_string is not None:
                reason, stop_reason = "stop", stop_string
            elif reason is not None:
                text += request.detokenizer.flush()
        if reason is not None:
            if stop_reason is None and reason == "stop" and token_id not in self.eos_token_ids:
                stop_reason = token_id
            self.scheduler.finish(request, reason, stop_reason)
        return self._output(request, [token_id], text, now)

    def _stops(self, request: Request, token_id: int) -> str | None:
        params = request.params
        if request.num_output_tokens >= params.min_tokens:
            if (token_id in self.eos_token_ids and not params.ignore_eos) or token_id in params.stop_token_ids:
                return "stop"
        if request.num_output_tokens >= params.max_tokens or request.num_tokens >= self.options.max_model_len:
            return "length"
        return None

    def _output(self, request: Request, token_ids: list[int], text: str, now: float) -> RequestOutput:
        return RequestOutput(
            request_id=request.request_id,
            token_ids=token_ids,
            text=text,
            finish_reason=request.finish_reason,
            stop_reason=request.stop_reason,
            num_prompt_tokens=request.num_prompt_tokens,
            num_cached_tokens=request.num_cached_tokens,
            num_preemptions=request.num_preemptions,
            arrival=request.arrival,
            first_scheduled=now if request.first_scheduled is None else request.first_scheduled,
            emitted=now,
            refusal=request.refusal,
        )

    def _decoder(self, skip_special_tokens: bool) -> Callable[[tuple[int, ...]], str]:
        return lru_cache(DECODES)(lambda token_ids: self.tokenizer.decode(token_ids, skip_special_tokens))

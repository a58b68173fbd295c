"""Prometheus series, named as vLLM names the same things, with the prefix `glassbox:`."""
from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from labkit.glassbox.messages import Stats
from labkit.glassbox.options import EngineOptions
from labkit.glassbox.outputs import RequestOutput
from labkit.glassbox.quantization import Switch

FIRST_TOKEN = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80)
PER_TOKEN = (0.001, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5)
WHOLE = (0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480)
TOKENS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
CONTENT_TYPE = CONTENT_TYPE_LATEST


class Metrics:
    """Its own registry: two servers in one process do not meet. Times come from the engine's clock."""

    def __init__(self, model_name: str, options: EngineOptions) -> None:
        disable_created_metrics()  # the library's switch is global; nothing here wants the series
        self.registry = CollectorRegistry()
        self._labels = {"model_name": model_name, "engine": "0"}
        self.kv_usage = self._make(Gauge, "kv_cache_usage_perc", "KV blocks held by requests over all blocks, 0 to 1")
        self.running = self._make(Gauge, "num_requests_running", "Requests in the batch")
        self.waiting = self._make(Gauge, "num_requests_waiting", "Requests in the queue")
        self.preemptions = self._make(Counter, "num_preemptions", "Requests that lost their blocks and were queued again")
        self.queries = self._make(Counter, "prefix_cache_queries", "Tokens looked up in the prefix cache")
        self.hits = self._make(Counter, "prefix_cache_hits", "Tokens found in the prefix cache")
        self.prompt_tokens = self._make(Counter, "prompt_tokens", "Prompt tokens of requests that gave their first token")
        self.generation_tokens = self._make(Counter, "generation_tokens", "Tokens generated")
        self.rejections = self._make(Counter, "admission_rejections", "Requests refused: too many are in, or one that never fits")
        self.finished = Counter("glassbox:request_success", "Requests ended", [*self._labels, "finished_reason"], registry=self.registry)
        self.first_token = self._make(Histogram, "time_to_first_token_seconds", "Arrival to first token", buckets=FIRST_TOKEN)
        self.gap = self._make(Histogram, "inter_token_latency_seconds", "Between two tokens of a request", buckets=PER_TOKEN)
        self.per_token = self._make(Histogram, "request_time_per_output_token_seconds", "A request's mean", buckets=PER_TOKEN)
        self.whole = self._make(Histogram, "e2e_request_latency_seconds", "Arrival to last token", buckets=WHOLE)
        self.queued = self._make(Histogram, "request_queue_time_seconds", "Arrival to first schedule", buckets=WHOLE)
        self.prefill = self._make(Histogram, "request_prefill_time_seconds", "First schedule to first token", buckets=WHOLE)
        self.decode = self._make(Histogram, "request_decode_time_seconds", "First to last token", buckets=WHOLE)
        self.iteration = self._make(Histogram, "iteration_tokens_total", "Tokens computed in a step", buckets=TOKENS)
        self.prompt_length = self._make(Histogram, "request_prompt_tokens", "Prompt tokens of a finished request", buckets=TOKENS)
        self.output_length = self._make(Histogram, "request_generation_tokens", "Output tokens of a finished request", buckets=TOKENS)
        info = {"block_size": str(options.block_size), "num_gpu_blocks": str(options.num_gpu_blocks_override), "engine": "0"}
        info["enable_prefix_caching"] = str(options.enable_prefix_caching)
        info["kv_cache_dtype"] = options.wanted_quantization().kv_cache_dtype
        self._info = info
        self.cache_config = Gauge("glassbox:cache_config_info", "The KV pool's configuration", list(info), registry=self.registry)
        self.cache_config.labels(**info).set(1)
        self._timing: dict[str, tuple[float, float, int]] = {}  # request id -> first token, latest token, tokens
        self._last = Stats()

    def observe(self, outputs: list[RequestOutput], stats: Stats) -> None:
        """One step."""
        for output in outputs:
            if output.refusal is not None:
                self.rejections.inc()
                continue
            if output.token_ids:
                self._observe_token(output)
            if output.finished:
                self._observe_end(output)
        self.kv_usage.set(stats.kv_usage)
        self.running.set(stats.running)
        self.waiting.set(stats.waiting)
        self.preemptions.inc(stats.preemptions - self._last.preemptions)
        self.queries.inc(stats.prefix_queries - self._last.prefix_queries)
        self.hits.inc(stats.prefix_hits - self._last.prefix_hits)
        if stats.iteration_tokens:
            self.iteration.observe(stats.iteration_tokens)
        self._last = stats

    def observe_switch(self, switch: Switch) -> None:
        """The engine was quantized: another pool."""
        self._info |= {"num_gpu_blocks": str(switch.num_blocks_after), "kv_cache_dtype": switch.kv_cache_dtype}
        self.cache_config.clear()
        self.cache_config.labels(**self._info).set(1)

    def render(self) -> bytes:
        return generate_latest(self.registry)

    def _observe_token(self, output: RequestOutput) -> None:
        self.generation_tokens.inc(len(output.token_ids))
        known = self._timing.get(output.request_id)
        if known is None:
            self.prompt_tokens.inc(output.num_prompt_tokens)
            self.first_token.observe(output.emitted - output.arrival)
            self.queued.observe(output.first_scheduled - output.arrival)
            self.prefill.observe(output.emitted - output.first_scheduled)
            self._timing[output.request_id] = output.emitted, output.emitted, 1
        else:
            first, latest, count = known
            self.gap.observe(output.emitted - latest)
            self._timing[output.request_id] = first, output.emitted, count + 1

    def _observe_end(self, output: RequestOutput) -> None:
        self.finished.labels(**self._labels, finished_reason=output.finish_reason).inc()
        first, latest, count = self._timing.pop(output.request_id, (output.emitted, output.emitted, 0))
        self.whole.observe(output.emitted - output.arrival)
        self.decode.observe(latest - first)
        self.prompt_length.observe(output.num_prompt_tokens)
        self.output_length.observe(count)
        if count > 1:
            self.per_token.observe((latest - first) / (count - 1))

    def _make(self, kind, name: str, text: str, **options):
        return kind(f"glassbox:{name}", text, list(self._labels), registry=self.registry, **options).labels(**self._labels)

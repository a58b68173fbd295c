"""The other side of `labkit bench scheduler`: runs inside vLLM's environment, with vLLM's scheduler, and without a model or a worker.

`python -m labkit.bench.vllm_scheduler MODEL_FOLDER` prints its version, then answers every `Setting` on stdin with times on stdout.
"""
from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from typing import Any

from labkit.bench.scheduler import Setting, measure
from labkit.servers.vllm_launch import name_the_package


class VllmSubject:
    """vLLM's `Scheduler` as its engine core makes it, over one group of full attention layers; block 0 is its null block."""

    def __init__(self, folder: str, setting: Setting) -> None:
        import torch
        from vllm import SamplingParams
        from vllm.engine.arg_utils import EngineArgs
        from vllm.usage.usage_lib import UsageContext
        from vllm.utils.hashing import get_hash_fn_by_name
        from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
        from vllm.v1.core.sched.scheduler import Scheduler
        from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec
        from vllm.v1.outputs import ModelRunnerOutput
        from vllm.v1.request import Request
        from vllm.v1.structured_output import StructuredOutputManager

        blocks = setting.blocks + 1
        config = EngineArgs(
            model=folder, tokenizer=folder, skip_tokenizer_init=True, load_format="dummy", enforce_eager=True, dtype="float32",
            block_size=setting.block_size, num_gpu_blocks_override=blocks, max_num_seqs=setting.running,
            max_num_batched_tokens=setting.max_num_batched_tokens, max_model_len=setting.max_model_len,
        ).create_engine_config(UsageContext.OPENAI_API_SERVER)  # fmt: skip
        config.cache_config.num_gpu_blocks = blocks
        spec = FullAttentionSpec(block_size=setting.block_size, num_kv_heads=2, head_size=32, dtype=torch.float32)
        kv = KVCacheConfig(num_blocks=blocks, kv_cache_tensors=[], kv_cache_groups=[KVCacheGroupSpec(["layer"], spec)])
        self.scheduler = Scheduler(config, kv, StructuredOutputManager(config), block_size=setting.block_size)
        hash_function = get_hash_fn_by_name(config.cache_config.prefix_caching_hash_algo)
        init_none_hash(hash_function)
        self.hasher = get_request_block_hasher(setting.block_size, hash_function)
        self.params, self.request, self.output = SamplingParams, Request, ModelRunnerOutput

    def add(self, name: str, token_ids: list[int], max_tokens: int) -> None:
        params = self.params(max_tokens=max_tokens, temperature=0.0, ignore_eos=True)
        self.scheduler.add_request(self.request(name, token_ids, params, None, block_hasher=self.hasher))

    def step(self, tokens: Iterator[int]) -> tuple[int, int, list[str]]:
        began = time.thread_time_ns()
        planned = self.scheduler.schedule()
        scheduling = time.thread_time_ns() - began
        names = list(planned.num_scheduled_tokens)
        sampled = [[next(tokens)] if self._samples(name) else [] for name in names]
        output = self.output(names, {name: index for index, name in enumerate(names)}, sampled)
        began = time.thread_time_ns()
        outputs = self.scheduler.update_from_output(planned, output)
        accounting = time.thread_time_ns() - began
        ended = [one.request_id for group in outputs.values() for one in group.outputs if one.finish_reason is not None]
        return scheduling, scheduling + accounting, ended

    def _samples(self, name: str) -> bool:
        request: Any = self.scheduler.requests[name]
        return request.num_computed_tokens >= request.num_tokens


def main() -> None:
    name_the_package()
    from vllm import __version__

    print(json.dumps({"version": __version__}), flush=True)
    for line in sys.stdin:
        setting = Setting(**json.loads(line))
        print(json.dumps(measure(VllmSubject(sys.argv[1], setting), setting)), flush=True)


if __name__ == "__main__":
    main()

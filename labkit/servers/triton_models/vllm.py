"""Triton model `vllm`: the real vLLM engine inside the real tritonserver, as Triton's own vLLM backend does it in NVIDIA's container."""
from __future__ import annotations

import asyncio
import itertools
import json
import threading
import time
from typing import Any

import triton_python_backend_utils as pb_utils

from labkit.servers.triton_models.wire import Generation, fail, parameters

LOOK = 0.2  # seconds between two looks at whether a client is still there


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        from labkit.servers import vllm_launch

        settings = parameters(args)
        vllm_launch.name_the_package()
        vllm_launch.import_everything(vllm_launch.architecture_of(["--model", settings["model"]]))
        vllm_launch.fork_not_spawn()
        self.names = map(str, itertools.count())
        self.loop = asyncio.new_event_loop()
        # The engine core's process dies with the thread that forks it: this one, which lives as long as the model.
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.engine = self._call(self._start(["--model", settings["model"], *json.loads(settings["engine_flags"])]))

    def execute(self, requests: list) -> None:
        """Take requests in; their responses come later, each to its own sender."""
        for request in requests:
            asyncio.run_coroutine_threadsafe(self._serve(request, request.get_response_sender()), self.loop)

    def finalize(self) -> None:
        self.engine.shutdown()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(2)

    def _call(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result()

    async def _start(self, words: list[str]) -> Any:
        """The engine for these command line words, which vLLM itself reads. Raises `ValueError` with its message."""
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.utils.argparse_utils import FlexibleArgumentParser
        from vllm.v1.engine.async_llm import AsyncLLM

        def refuse(message: str) -> None:
            raise ValueError(message)

        parser = AsyncEngineArgs.add_cli_args(FlexibleArgumentParser())
        parser.error = refuse
        return AsyncLLM.from_engine_args(AsyncEngineArgs.from_cli_args(parser.parse_args(words)))

    async def _serve(self, request: Any, sender: Any) -> None:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        try:
            generation = Generation.read(request)
            kind = RequestOutputKind.DELTA if generation.stream else RequestOutputKind.FINAL_ONLY
            params = SamplingParams(**generation.sampling, output_kind=kind)
            name, looked = next(self.names), time.monotonic()
            async for output in self.engine.generate(generation.text, params, name):
                new = output.outputs[0]
                text = generation.text + new.text if generation.prepend else new.text
                response = generation.response(text, [], list(new.token_ids), new.finish_reason, len(output.prompt_token_ids))
                sender.send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL if output.finished else 0)
                if time.monotonic() > looked + LOOK and not output.finished:
                    looked = time.monotonic()
                    if sender.is_cancelled():
                        raise asyncio.CancelledError
        except asyncio.CancelledError:
            await self.engine.abort(name)
            fail(sender, RuntimeError("cancelled"))
        except Exception as error:  # whatever is wrong with it, a request fails alone
            fail(sender, error)

"""Triton model `glassbox`: the glass box engine behind Triton, decoupled, a response for every token.

Triton hands a request over as soon as it comes; the engine batches step by step. The engine's loop is that of the glass box's own
server. It has a thread here, and what it makes goes out on another, so that a slow client does not hold up a step.
"""
from __future__ import annotations

import gc
import itertools
import json
import os
import queue
import threading
import time
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import triton_python_backend_utils as pb_utils

from labkit.servers.triton_models.wire import Generation, fail, parameters

LOOK = 0.2  # seconds between two looks at whether clients are still there: asking Triton costs a message
CONTEXT = 5  # tokens before new ones that a decoder may need to see


@dataclass(slots=True)
class Stream:
    """One request that is being served."""

    generation: Generation
    sender: Any
    context: list[int]  # the last tokens that the client knows
    token_ids: list[int] = field(default_factory=list)  # not sent yet
    text: str = ""


class Mailbox:
    """The two ends of the engine's loop, as queues: what it receives and what it sends."""

    def __init__(self) -> None:
        self.inbox: queue.SimpleQueue = queue.SimpleQueue()
        self.outbox: queue.SimpleQueue = queue.SimpleQueue()
        self.send = self.outbox.put

    def recv(self) -> tuple:
        if (message := self.inbox.get()) is None:
            raise EOFError
        return message


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        from labkit.glassbox.engine_process import EngineLoop, Setup, start
        from labkit.glassbox.options import EngineOptions

        settings, trace = parameters(args), {name: os.environ.get(f"LABKIT_TRACE_{name}") for name in ("SOCKET", "FILE", "NAME")}
        setup = Setup(settings["model"], EngineOptions(**json.loads(settings["engine_options"])), trace["SOCKET"] and Path(trace["SOCKET"]),
                      trace["FILE"] and Path(trace["FILE"]), trace["NAME"] or "")
        self.engine, self.recorder = start(setup)
        gc.freeze()
        self.names = map(str, itertools.count())
        self.streams: dict[str, Stream] = {}
        self.fault = ""
        self.mailbox = Mailbox()
        self.threads = [threading.Thread(target=run, daemon=True) for run in (EngineLoop(self.engine, self.mailbox).run, self._answer)]
        for thread in self.threads:
            thread.start()

    def execute(self, requests: list) -> None:
        """Take requests in; their responses come later, each to its own sender."""
        for request in requests:
            sender = request.get_response_sender()
            try:
                self._admit(request, sender)
            except Exception as error:  # whatever is wrong with it, a request fails alone
                fail(sender, error)

    def finalize(self) -> None:
        self.mailbox.inbox.put(None)
        self.mailbox.outbox.put(None)
        for thread in self.threads:
            thread.join(1)
        if self.recorder is not None:
            self.recorder.close()

    def _admit(self, request: Any, sender: Any) -> None:
        from labkit.glassbox.request import check_prompt
        from labkit.glassbox.sampling_params import SamplingParams

        if self.fault:
            raise RuntimeError(self.fault)
        generation = Generation.read(request)
        prompt = self.engine.tokenizer.encode(generation.text) if generation.input_ids is None else generation.input_ids
        check_prompt(prompt, self.engine.options.max_model_len, self.engine.runner.vocab_size)
        known = [each.name for each in fields(SamplingParams)]
        if unknown := set(generation.sampling) - set(known):
            raise ValueError(f"there is no sampling parameter {min(unknown)!r}; there are {', '.join(known)}")
        params, name = SamplingParams(**generation.sampling), next(self.names)
        params.check_vocabulary(self.engine.runner.vocab_size)
        self.streams[name] = Stream(generation, sender, prompt[-CONTEXT:])
        self.mailbox.inbox.put(("add", name, prompt, params, 0))

    def _answer(self) -> None:
        """Outputs to responses; cancelled requests to aborts."""
        looked = 0.0
        while True:
            try:
                message = self.mailbox.outbox.get(timeout=LOOK)
            except queue.Empty:
                message = ("outputs", [])
            if message is None:
                return
            if message[0] == "dead":
                return self._break(message[1])
            for output in message[1]:
                self._take(output)
            if time.monotonic() > looked + LOOK:
                looked = time.monotonic()
                for name in [name for name, stream in list(self.streams.items()) if stream.sender.is_cancelled()]:
                    self.mailbox.inbox.put(("abort", name))

    def _take(self, output: Any) -> None:
        if (stream := self.streams.get(output.request_id)) is None:
            return
        stream.text += output.text
        stream.token_ids += output.token_ids
        if output.finished:
            del self.streams[output.request_id]
        if output.refusal is not None:
            return fail(stream.sender, RuntimeError(output.refusal.message))
        if output.finished or (stream.generation.stream and self._shows(stream)):
            text = stream.generation.text + stream.text if stream.generation.prepend else stream.text
            response = stream.generation.response(text, stream.context, stream.token_ids, output.finish_reason, output.num_prompt_tokens)
            stream.sender.send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL if output.finished else 0)
            stream.context, stream.token_ids, stream.text = (stream.context + stream.token_ids)[-CONTEXT:], [], ""

    def _shows(self, stream: Stream) -> bool:
        """Whether what is new can go out. A detokenizer that gets token ids sees no others: they must be whole characters."""
        return stream.generation.input_ids is None or not self.engine.tokenizer.decode(stream.token_ids).endswith("\ufffd")

    def _break(self, message: str) -> None:
        """The engine has failed: no stream is left waiting, and no request is taken in any more."""
        self.fault = f"the engine failed: {message}. Start the server again; its log has the details"
        for stream in list(self.streams.values()):
            fail(stream.sender, RuntimeError(self.fault))

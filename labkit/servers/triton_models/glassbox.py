"""Triton model `glassbox`: the glass box engine behind Triton, decoupled, a response for every token.

Triton hands every request over as soon as it comes; the engine batches them step by step. One thread runs the engine; what it
makes goes out on another, so that a slow client does not hold up a step.
"""
from __future__ import annotations

import json
import queue
import threading
import time
from dataclasses import dataclass, field
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
    context: list[int]  # the last tokens that are known to the client
    pending: list[int] = field(default_factory=list)  # tokens that were not sent yet
    text: str = ""


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        from labkit.servers.triton_models.engine import load

        settings = parameters(args)
        self.engine, self.recorder = load(Path(settings["model"]), json.loads(settings["engine_flags"]))
        self.inbox: queue.SimpleQueue = queue.SimpleQueue()
        self.outbox: queue.SimpleQueue = queue.SimpleQueue()
        self.streams: dict[str, Stream] = {}
        self.fault: Exception | None = None
        self.threads = [threading.Thread(target=loop, daemon=True) for loop in (self._run, self._send)]
        for thread in self.threads:
            thread.start()

    def execute(self, requests: list) -> None:
        """Take requests; the answers come later."""
        for request in requests:
            self.inbox.put((request, request.get_response_sender()))

    def finalize(self) -> None:
        self.inbox.put(None)
        for thread in self.threads:
            thread.join(5)
        if self.recorder is not None:
            self.recorder.close()

    def _run(self) -> None:
        """The engine's thread: admit what has come, step, hand the outputs on."""
        looked = 0.0
        while True:
            while not self.inbox.empty() or not self.engine.has_unfinished():
                if (item := self.inbox.get()) is None:
                    return self.outbox.put(None)
                self._admit(*item)
            try:
                outputs = self.engine.step()
            except Exception as error:  # whatever it is, clients must hear of it
                self._break(error)
                continue
            for output in outputs:
                self._hand_on(output)
            if time.monotonic() > looked + LOOK:
                looked = time.monotonic()
                for request_id in [name for name, stream in self.streams.items() if stream.sender.is_cancelled()]:
                    self._hand_on(self.engine.abort(request_id))

    def _admit(self, request: Any, sender: Any) -> None:
        from labkit.glassbox import SamplingParams

        try:
            if self.fault is not None:
                raise RuntimeError(f"the engine has stopped ({self.fault}): start the server again")
            generation = Generation.read(request)
            prompt = generation.input_ids or self.engine.tokenizer.encode(generation.text)
            request_id = self.engine.add_request(prompt, SamplingParams(**generation.sampling))
        except Exception as error:  # a bad request ends alone
            return fail(sender, error)
        self.streams[request_id] = Stream(generation, sender, context=prompt[-CONTEXT:])

    def _hand_on(self, output: Any) -> None:
        self.outbox.put((self.streams[output.request_id], output))
        if output.finished:
            del self.streams[output.request_id]

    def _break(self, error: Exception) -> None:
        """The engine cannot go on: end every stream with the reason."""
        self.fault = error
        for request_id, stream in self.streams.items():
            self.engine.abort(request_id)
            fail(stream.sender, RuntimeError(f"the engine failed in mid-stream: {error!r}"))
        self.streams.clear()

    def _send(self) -> None:
        """The other thread: outputs to responses."""
        while (item := self.outbox.get()) is not None:
            stream, output = item
            stream.text += output.text
            stream.pending += output.token_ids
            if output.finished or (stream.generation.stream and self._complete(stream)):
                self._respond(stream, output)

    def _complete(self, stream: Stream) -> bool:
        """Whether what is pending can go. Token ids are shown by a detokenizer that knows no more than them: whole characters only."""
        return stream.generation.input_ids is None or not self.engine.tokenizer.decode(stream.pending).endswith("\ufffd")

    def _respond(self, stream: Stream, output: Any) -> None:
        text = stream.generation.text + stream.text if stream.generation.prepend else stream.text
        response = stream.generation.response(text, stream.context, stream.pending, output.finish_reason, output.num_prompt_tokens)
        stream.sender.send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL if output.finished else 0)
        stream.text, stream.context, stream.pending = "", (stream.context + stream.pending)[-CONTEXT:], []

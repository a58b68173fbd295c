"""The engine in a process of its own: the HTTP server's work and the engine's steps do not wait for each other's interpreter lock.

`python -m labkit.glassbox.engine_process FD` talks over the inherited socket FD: first comes a `Setup`, then ("add", id, token ids,
params, priority), ("abort", id) and ("quantize", id, arguments of Engine.quantize); back go ("ready", vocab_size), ("failed", message),
("outputs", [RequestOutput], Stats), ("answer", id, Switch or error message) to a "quantize", ("dead", message).
End of file, for whatever reason the other side has gone, ends this process.
"""
from __future__ import annotations

import gc
import logging
import math
import queue
import signal
import sys
import threading
from collections import deque
from multiprocessing.connection import Connection
from typing import Any

from labkit.glassbox.messages import Setup, Stats


def main() -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server decides when to end, and tells by closing the socket
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s", stream=sys.stderr)
    connection = Connection(int(sys.argv[1]))
    try:
        setup = connection.recv()
        engine, recorder = start(setup)
    except EOFError:
        return 0
    except (ValueError, MemoryError, OSError, RuntimeError) as error:
        connection.send(("failed", f"{error}"))
        return 1
    gc.collect()
    gc.freeze()  # the model is no garbage: do not look through it again
    try:
        with Post(connection) as post:
            post.send(("ready", engine.runner.model.config.vocab_size))
            EngineLoop(engine, post).run()
    finally:
        if recorder is not None:
            recorder.close()
            report_failure(recorder)
    return 0


def start(setup: Setup) -> tuple[Any, Any]:
    """Engine and recorder (None without a trace) for a setup."""
    logging.getLogger("labkit.glassbox").info("importing torch")
    from labkit.glassbox.build import choose_device
    from labkit.glassbox.engine import Engine
    from labkit.glassbox.threads import choose
    from labkit.glassbox.tracing import make_header
    from labkit.glassbox.warm_up import warm_up

    recorder = None
    if setup.trace_socket or setup.trace_file:
        from labkit.trace.recorder import Recorder

        header = make_header(setup.options, setup.model, str(choose_device(setup.options.device)), setup.trace_name)
        recorder = Recorder(header, setup.trace_file, setup.trace_socket)
    engine = Engine.from_folder(setup.model, setup.options, recorder)
    engine.runner.threads = choose(engine.runner.device, engine.runner.workshop.parts.weight_bytes)
    engine.runner.record()
    warm_up(engine.runner, engine.options)
    return engine, recorder


def report_failure(recorder: Any) -> None:
    """A run file that could not be written whole is said so in the log."""
    if recorder.failure:
        logging.getLogger("labkit.glassbox").error("trace: %s; free some space or choose another --trace-file", recorder.failure)


class Post:
    """A connection that sends on a thread of its own: while outputs are written, the next step is computed.

    `send` waits when more than `LETTERS` messages are on their way: an engine that nobody listens to does not run ahead.
    """

    LETTERS = 8

    def __init__(self, connection: Connection) -> None:
        self.connection, self.recv = connection, connection.recv
        self.letters: queue.Queue[tuple | None] = queue.Queue(self.LETTERS)
        self.send = self.letters.put
        self.thread = threading.Thread(target=self._run, name="labkit-post", daemon=True)

    def _run(self) -> None:
        gone = False
        while (letter := self.letters.get()) is not None:
            try:
                if not gone:
                    self.connection.send(letter)
            except OSError:  # nobody is there any more: the reading end finds that too, and ends the loop
                gone = True

    def __enter__(self) -> Post:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Send what is left."""
        self.letters.put(None)
        self.thread.join()


class EngineLoop:
    """Takes what has arrived, steps, sends what came out; sleeps while there is nothing to do."""

    def __init__(self, engine: Any, connection: Any) -> None:
        """connection: `recv` and `send`."""
        self.engine, self.connection = engine, connection
        self.inbox: deque[tuple] = deque()
        self.arrived = threading.Event()
        self.closed = threading.Event()
        pace = engine.options.max_steps_per_second
        self.least = 1 / pace if pace else 0.0  # seconds of a step

    def run(self) -> None:
        threading.Thread(target=self._read, daemon=True).start()
        while not self.closed.is_set():
            if not self.inbox:
                self.arrived.wait(self._patience())
            self.arrived.clear()
            began = self.engine.clock()
            try:
                outputs = self._take()
                busy = self.engine.has_unfinished()
                outputs += self.engine.step() if busy else []
            except Exception as error:
                logging.getLogger("labkit.glassbox").exception("the engine failed")
                self.connection.send(("dead", f"{type(error).__name__}: {error}"))
                return
            self.connection.send(("outputs", outputs, self._stats(self.engine.num_step_tokens if busy else 0)))
            if busy and self.least:
                self.closed.wait(max(0.0, began + self.least - self.engine.clock()))

    def _patience(self) -> float | None:
        """Seconds to wait for something to arrive; None: for however long it takes."""
        if not self.engine.has_unfinished() or self.engine.wait_until == math.inf:
            return None
        return max(0.0, self.engine.wait_until - self.engine.clock()) if self.engine.wait_until is not None else 0.0

    def _read(self) -> None:
        try:
            while True:
                self.inbox.append(self.connection.recv())
                self.arrived.set()
        except (EOFError, OSError):
            self.closed.set()
            self.arrived.set()

    def _take(self) -> list:
        outputs = []
        while self.inbox:
            verb, request_id, *rest = self.inbox.popleft()
            if verb == "add":
                outputs += self._add(request_id, *rest)
            elif verb == "quantize":
                self.connection.send(("answer", request_id, self._quantize(*rest)))
            elif (output := self.engine.abort(request_id)) is not None:
                outputs.append(output)
        return outputs

    def _add(self, request_id: str, token_ids: list[int], params: Any, priority: int) -> list:
        """Queue a request; one that is refused has its answer already."""
        from labkit.glassbox.outputs import RequestOutput
        from labkit.glassbox.refusal import Overloaded, Refusal, Unservable

        try:
            self.engine.add_request(token_ids, params, request_id, priority)
        except (Overloaded, Unservable) as error:
            return [RequestOutput(request_id, [], finish_reason="refused", refusal=error.refusal)]
        except (ValueError, TypeError) as error:  # what slips through at the door ends itself, not the engine
            return [RequestOutput(request_id, [], finish_reason="refused", refusal=Refusal(str(error)))]
        return []

    def _quantize(self, settings: dict[str, Any]) -> Any:
        """What the switch changed; or why there is none, and the engine goes on as it is."""
        try:
            return self.engine.quantize(**settings)
        except (ValueError, MemoryError, OSError, RuntimeError, ImportError) as error:
            logging.getLogger("labkit.glassbox").warning("not quantized: %s", error)
            return str(error)

    def _stats(self, iteration_tokens: int) -> Stats:
        scheduler = self.engine.scheduler
        kv = scheduler.kv
        return Stats(
            running=len(scheduler.running),
            waiting=len(scheduler.waiting),
            kv_usage=kv.usage,
            preemptions=scheduler.num_preemptions,
            prefix_queries=kv.queries,
            prefix_hits=kv.hits,
            iteration_tokens=iteration_tokens,
        )


if __name__ == "__main__":
    sys.exit(main())

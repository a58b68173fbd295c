"""`python -m labkit.glassbox.server`: the engine over HTTP in the OpenAI protocol, with vLLM's option names.

The engine process starts to import torch before this one imports its web server: the two load side by side.
"""
from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import socket
import sys
from dataclasses import fields
from pathlib import Path

from labkit.glassbox.engine_client import EngineClient, EngineFailure
from labkit.glassbox.messages import Setup
from labkit.glassbox.model_config import ModelConfig
from labkit.glassbox.options import ATTENTION_BACKENDS, DTYPES, LINEAR_BACKENDS, SCHEDULING_OPTIONS, EngineOptions, flag
from labkit.glassbox.policies import POLICIES, make_scheduler
from labkit.glassbox.policies.parameters import add_arguments, given_parameters
from labkit.glassbox.quantization import KV_FORMATS
from labkit.quantization.methods import METHODS

log = logging.getLogger("labkit.glassbox")


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="labkit.glassbox.server", description=__doc__.split("\n")[0])
    add = parser.add_argument
    switch = argparse.BooleanOptionalAction
    add("--model", default="tiny", help="a shipped model's name, a folder, or a hub name")
    add("--served-model-name", nargs="+", help="names that clients may use (default: as given, and the folder's name)")
    add("--host", default="127.0.0.1")
    add("--port", type=int, default=8000)
    add("--block-size", type=int, help="tokens per KV block")
    add("--num-gpu-blocks-override", type=int, help="blocks of the KV pool, on whatever device")
    add("--max-num-seqs", type=int, help="requests running at once")
    add("--max-num-batched-tokens", type=int, help="token budget of a step")
    add("--max-model-len", type=int, help="prompt and output tokens of one request")
    add("--enable-prefix-caching", action=switch)
    add("--enable-chunked-prefill", action=switch)
    add("--policy", help=f"batching policy: {', '.join(POLICIES)} (default), or package.module:Class for one of your own")
    add("--dtype", choices=DTYPES, help="auto: float32 on a CPU")
    add("--seed", type=int, help="of dummy weights and of requests that bring none")
    add("--device", help="auto, cpu or cuda")
    add("--load-format", help="auto, safetensors, or dummy for random weights of the configured shape")
    add("--attention-backend", choices=ATTENTION_BACKENDS, help="paged: read the KV cache where it is; gather: the readable way")
    add("--linear-backend", choices=LINEAR_BACKENDS, help="packed: weights rearranged for the CPU's kernel; plain: the readable way")
    add("--enforce-eager", action=switch, help="compute layer by layer in torch, never a step as one compiled function or a CUDA graph")
    add("--quantization", metavar="METHOD", help=f"quantize the weights: none, {', '.join(METHODS)}")
    add("--quantization-bits", type=int, help="bits of a weight (default: the method's own)")
    add("--quantization-group-size", type=int, help="weights that share a scale (default: the method's own)")
    add("--quantization-calibration-rows", type=int, help="rows of calibration text, for methods that look at activations")
    add("--kv-cache-dtype", help=f"{', '.join(KV_FORMATS)}; auto: as the model computes")
    add("--max-steps-per-second", type=int, help="slow motion, to watch it (default: as fast as it can)")
    add("--check-invariants", action=switch, help="check the laws of the KV cache after every step")
    add("--max-num-queued-reqs", type=int, help="requests here at once, waiting or running; more are refused with 429 (default: no limit)")
    add("--trace-socket", type=Path, help="serve live trace events on this Unix socket")
    add("--trace-file", type=Path, help="write trace events to this file")
    add("--trace-name", default="", help="what views call this run")
    add_arguments(parser, POLICIES)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Serve until SIGINT or SIGTERM. Exit code 2 for wrong options, 1 for what fails later; the last line of stderr says why."""
    arguments = parser()
    args = arguments.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s", stream=sys.stderr)
    try:
        folder, options = check(args)
        listener = bind(args.host, args.port)
    except (ValueError, OSError) as error:
        arguments.error(str(error))
    names = args.served_model_name or list(dict.fromkeys([args.model, Path(args.model).name]))
    client = EngineClient(Setup(str(folder), options, args.trace_socket, args.trace_file, args.trace_name))
    try:
        with asyncio.Runner(loop_factory=event_loop_factory()) as runner:
            return runner.run(serve(client, listener, folder, options, names, args.max_num_queued_reqs))
    except EngineFailure as failure:
        print(f"{arguments.prog}: error: {failure}", file=sys.stderr, flush=True)
        return 1


def check(args: argparse.Namespace) -> tuple[Path, EngineOptions]:
    """Everything that can be known to be wrong before torch is imported. Raises `ValueError`."""
    from labkit.models import folder

    path = folder(args.model)
    given = {f.name: getattr(args, f.name) for f in fields(EngineOptions) if getattr(args, f.name, None) is not None}
    options = EngineOptions(**given, policy_parameters=given_parameters(args, POLICIES))
    options.resolve(ModelConfig.from_folder(path).max_position_embeddings)
    scheduler = make_scheduler(options.policy, options, **options.policy_parameters)
    for name in SCHEDULING_OPTIONS:
        if name in given and name not in scheduler.engine_options:
            log.warning("the policy %s has no use for %s", options.policy, flag(name))
    if args.max_num_queued_reqs is not None and args.max_num_queued_reqs < 0:
        raise ValueError(f"--max-num-queued-reqs must be 0 or more, got {args.max_num_queued_reqs}")
    return path, options


def bind(host: str, port: int) -> socket.socket:
    """The server's socket, bound and not yet listening. Raises `OSError` saying what to do about a port that is taken."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise OSError(f"cannot listen on {host}:{port}: {error.strerror}; stop what uses it, or choose another --port") from error
    return listener


def event_loop_factory():
    try:
        from uvloop import new_event_loop
    except ImportError:  # no uvloop on this platform
        return None
    return new_event_loop


async def serve(
    client: EngineClient, listener: socket.socket, folder: Path, options: EngineOptions, names: list[str], max_queued: int | None
) -> int:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        from aiohttp import web

        from labkit.glassbox.api import Api
        from labkit.glassbox.tokenizer import Tokenizer

        api = Api(client, Tokenizer(folder), options, names, max_queued)
        if not await first(client.ready(), stop):
            return 0
        client.on_death = lambda failure: stop.set()
        runner = web.AppRunner(api.application(), access_log=None, handler_cancellation=True, shutdown_timeout=1.0)
        await runner.setup()
        await web.SockSite(runner, listener, backlog=1024).start()
        log.info("ready on http://%s:%d (engine process %d)", *listener.getsockname()[:2], client.pid)
        await stop.wait()
        log.info("stopping")
        await runner.cleanup()
        if client.failure is not None:
            raise client.failure
        return 0
    finally:
        await client.close()


async def first(task, stop: asyncio.Event) -> bool:
    """Await `task`; False if `stop` was set before it was done."""
    waiting = [asyncio.ensure_future(task), asyncio.ensure_future(stop.wait())]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    waiting[1].cancel()
    if waiting[0].done():
        waiting[0].result()
        return True
    waiting[0].cancel()
    return False


if __name__ == "__main__":
    sys.exit(main())

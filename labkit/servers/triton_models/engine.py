"""The glass box engine as Triton's models make it."""
from __future__ import annotations

import os
from pathlib import Path


def engine_options(flags):
    from dataclasses import fields
    from labkit.glassbox import EngineOptions
    from labkit.servers.driver import options
    given = options(flags)
    types = {f.name: f.type for f in fields(EngineOptions)}
    return EngineOptions(**{k: int(v) if "int" in types[k] else v for k, v in given.items()})


def load(folder: Path, flags: list[str]):
    """The engine, and the recorder that traces it where the server was told to trace."""
    from labkit.glassbox import Engine
    from labkit.glassbox.build import build_runner
    from labkit.glassbox.policies.chunked import ChunkedScheduler
    from labkit.glassbox.tokenizer import Tokenizer
    from labkit.glassbox.tracing import make_header
    from labkit.trace import Recorder

    options = engine_options(flags)
    runner, config = build_runner(folder, options)
    header = make_header(options, folder.name, str(runner.device), os.environ.get("LABKIT_TRACE_NAME", ""))
    recorder = Recorder(header, Path(os.environ["LABKIT_TRACE_FILE"]), Path(os.environ["LABKIT_TRACE_SOCKET"]))
    return Engine(ChunkedScheduler(options), runner, config.eos_token_ids, Tokenizer(folder), recorder), recorder

"""`serve`, `attach` and the `Server` they return: what a notebook holds in its hand."""
from __future__ import annotations

import contextlib
import json
import secrets
import shutil
import time
import urllib.request
from datetime import datetime
from pathlib import Path
from typing import Self

from labkit.environments.home import home, logs, runs, servers
from labkit.servers import preflight
from labkit.servers.connection import Connection, begin, join
from labkit.servers.driver import (
    Driver,
    Launch,
    Order,
    ServerError,
    canonical,
    driver,
    options,
    words,
)
from labkit.servers.guard import answers
from labkit.servers.progress import Progress
from labkit.servers.registry import Record, locked, records, share_key, sweep

LONGEST = 300.0  # seconds a start may take unless the user says otherwise
KEPT_LOGS = 100


class Server:
    """A running server. It stops when the last user's handle is stopped, dropped, or dies with its process.

    `url` is the root (http://127.0.0.1:PORT); `model` the name that requests carry; `run_file` and `trace_socket` are None
    for a server that does not trace; `pid` is None for one that labkit did not start; `startup` are the phases of the start
    with the seconds at which they began; `ready_after` the seconds until it could serve.
    """

    def __init__(self, record: Record, connection: Connection | None):
        self.record = record
        self.name, self.badge, self.url, self.model = record.name, record.badge, record.url, record.model
        self.model_folder = Path(record.model_folder) if record.model_folder else None
        self.pid = record.pid or None
        self.log = Path(record.log) if record.log else None
        self.ports = record.ports
        self.options = options(record.flags)
        self.trace_socket = Path(record.trace_socket) if record.trace_socket else None
        self.run_file = Path(record.run_file) if record.run_file else None
        self.startup: list[tuple[str, float]] = []
        self.ready_after: float | None = None
        self._connection = connection
        self._fault: str | None = None

    def health(self) -> bool:
        """Whether the server answers now."""
        return self.fault() is None and answers(self.record.ready_url, timeout=5.0)

    def fault(self) -> str | None:
        """Why the server has ended, if it has; None while it runs."""
        if self._connection is not None and self._fault is None:
            try:
                while message := self._connection.receive(0):
                    self._fault = _told(message, self.record) or self._fault
            except EOFError:
                self._fault = self._fault or f"{self.name} was stopped; its log is {self.log}"
        return self._fault

    def metrics(self) -> dict[str, float]:
        """The server's Prometheus metrics now: sample name to value, summed over label sets (histogram buckets left out).

        Raises `ServerError` when there are none to be had.
        """
        from prometheus_client.parser import text_string_to_metric_families

        if not self.record.metrics_url:
            raise ServerError(f"{self.name} has no metrics")
        try:
            with urllib.request.urlopen(self.record.metrics_url, timeout=10) as response:
                text = response.read().decode()
        except OSError as error:
            raise ServerError(self.fault() or f"{self.name} does not answer on {self.record.metrics_url}: {error}") from error
        values: dict[str, float] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if not sample.name.endswith("_bucket"):
                    values[sample.name] = values.get(sample.name, 0.0) + sample.value
        return values

    def quantize(self, method: str | None = None, **settings: object) -> dict[str, object]:
        """Quantize a running glass box: its weights by `method` ("none": not at all), its KV cache to kv_cache_dtype, or both; what that
        frees becomes KV blocks. settings: bits, group_size, kv_cache_dtype, calibration_rows, max_num_seqs. Returns bytes and blocks before
        and after. Raises `ServerError` for other servers, and for what cannot be done; the server then goes on as it is.
        """
        from labkit.servers.quantize import quantize

        return quantize(self.name, self.url, {"method": method, **settings})

    def stop(self) -> None:
        """Stop using the server, and wait until it is gone unless somebody else uses it. Does nothing the second time."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        connection.leave()
        for message in connection.messages():
            self._fault = _told(message, self.record) or self._fault
        connection.close()
        self._fault = self._fault or f"{self.name} was stopped"

    def wait(self) -> None:
        """Block until the server ends. Raises `ServerError` if it failed."""
        if self._connection is not None:
            for message in self._connection.messages():
                self._fault = _told(message, self.record) or self._fault
            if self._fault:
                raise ServerError(self._fault)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        state = "running" if self.fault() is None else "stopped"
        return f"<{self.name} [{self.badge}] {state} at {self.url}, model {self.model}>"


def serve(name: str, *, model: str | Path = "tiny", port: int | None = None, share: bool = True, timeout: float = LONGEST,
          progress: bool = True, flags: list[str] | None = None, **settings: object) -> Server:
    """Start the server `name`, or join one that runs with the same settings, and return when it can serve.

    model: "tiny" (shipped), a folder, or a hub name. settings: the server's own options, underscores for dashes
    (block_size=32); `flags` gives them as command line words instead. share=False starts one of its own. progress shows the
    phases of the start. Raises `ServerError` naming cause and remedy if it cannot be started within `timeout` seconds.
    """
    wanted = driver(name)
    try:
        sweep()
    except OSError as error:  # LABKIT_HOME cannot be used
        raise ServerError(f"{error.strerror} ({error.filename})") from error
    given = canonical([*words(settings), *(flags or [])])
    with Progress(name, shown=progress) as shown:
        for environment in wanted.environments(given):
            _install(environment, shown)
        connection = None
        try:
            record, connection = _find_or_begin(name, str(model), port, given, share)
            return _await(Server(record, connection), connection, timeout, shown)
        except BaseException:
            if connection is not None:
                connection.close()
            raise


def attach(url: str) -> Server:
    """A handle on a server that runs already, wherever it was started. Stopping the handle leaves the server alone.

    For one that labkit started on this machine the handle knows its trace and log. Raises `ServerError` if nobody answers.
    """
    url = url.rstrip("/").removesuffix("/v1")
    for record in records():
        if record.url == url and record.guarded():
            return Server(record, None)
    for kind, ready, metrics in (("openai", "/health", "/metrics"), ("triton", "/v2/health/ready", "")):
        if answers(url + ready, timeout=5.0):
            name, model = _identify(url) if kind == "openai" else (kind, "")
            return Server(Record(id="", key="", name=name, badge="live", url=url, ready_url=url + ready, model=model, model_folder="",
                                 metrics_url=url + metrics if metrics else "", flags=[], log="", folder="", socket=""), None)
    raise ServerError(f"no server answers on {url} (tried /health and /v2/health/ready). Check the address, or start one with lab.serve")


def _find_or_begin(name: str, model: str, port: int | None, given: list[str], share: bool) -> tuple[Record, Connection]:
    wanted, folder = driver(name), _folder(model)
    identity = secrets.token_hex(4)
    key = share_key(wanted.name, str(folder), given, port) if share else identity
    with locked():
        for record in records():
            if record.key == key and record.guarded() and (connection := join(record)):
                return record, connection
        preflight.check_disk(home())
        port = preflight.check_port(port) if port is not None else preflight.free_ports()[0]
        title = f"{wanted.name}-{datetime.now():%Y%m%d-%H%M%S}-{identity}"
        order = Order(model=str(folder), name=_name(model), flags=given, port=port, log=logs() / f"{title}.log",
                      folder=servers() / identity, trace_socket=servers() / identity / "trace", run_file=runs() / f"{title}.jsonl")
        order.folder.mkdir()
        try:
            launch = wanted.plan(order)
            preflight.check_memory(wanted.name, launch.memory)
            _forget_old_logs()
            record = _record(wanted, order, launch, identity, key)
            return begin(record, launch, name)
        except BaseException:
            shutil.rmtree(order.folder, ignore_errors=True)
            raise


def _record(wanted: Driver, order: Order, launch: Launch, identity: str, key: str) -> Record:
    return Record(id=identity, key=key, name=wanted.name, badge=wanted.badge, url=f"http://{preflight.HOST}:{order.port}",
                  ready_url=launch.ready_url, metrics_url=launch.metrics_url, model=launch.model, model_folder=order.model,
                  flags=order.flags, log=str(order.log), folder=str(order.folder), socket=str(servers() / f"{identity}.sock"),
                  ports={"http": order.port, **launch.ports}, trace_socket=str(order.trace_socket) if launch.traced else None,
                  run_file=str(order.run_file) if launch.traced else None)


def _await(server: Server, connection: Connection, timeout: float, shown: Progress) -> Server:
    deadline = time.monotonic() + timeout
    while True:
        try:
            message = connection.receive(min(0.5, max(0.0, deadline - time.monotonic())))
        except EOFError:
            raise ServerError(f"the guard of {server.name} has gone; see {server.log}") from None
        if message is None:
            shown.tick()
            if time.monotonic() > deadline:
                last = f" while {server.startup[-1][0]}" if server.startup else ""
                raise ServerError(f"{server.name} was not ready after {timeout:.0f} s{last}. Give it more with timeout=..., or read its "
                                  f"log {server.log}\n{_tail(server.log)}")
        elif "phase" in message:
            server.startup.append((message["phase"], message["seconds"]))
            shown.phase(message["phase"])
        elif "ready" in message:
            server.ready_after = message["ready"]
            shown.ready(f"{server.name} [{server.badge}] is ready at {server.url} after {server.ready_after:.1f} s")
            return server
        elif fault := _told(message, server.record):
            raise ServerError(fault)


def _told(message: dict, record: Record) -> str | None:
    """The user's words for a failure, None for other messages."""
    if "failed" not in message:
        return None
    lines = "\n".join(f"    {line}" for line in message.get("tail", []))
    return f"{message['failed']}\nThe log is {record.log}; its last lines:\n{lines}" if lines else message["failed"]


def _tail(log: Path, lines: int = 10) -> str:
    with contextlib.suppress(OSError):
        return "\n".join(f"    {line}" for line in log.read_text(errors="replace").splitlines()[-lines:])
    return ""


def _identify(url: str) -> tuple[str, str]:
    """Who owns the first model that an OpenAI-shaped server lists, and that model's name."""
    try:
        with urllib.request.urlopen(url + "/v1/models", timeout=5) as response:
            first = json.load(response)["data"][0]
        return first.get("owned_by", "openai"), first["id"]
    except (OSError, ValueError, LookupError):
        return "openai", ""


def _folder(model: str) -> Path | str:
    from labkit.models import folder
    from labkit.models.registry import ModelError

    try:
        return folder(model)
    except ModelError as error:
        raise ServerError(str(error)) from error


def _name(model: str) -> str:
    """What clients call a model: a hub name as it is, otherwise the last part of the path."""
    path = Path(model).expanduser()
    return path.resolve().name if path.exists() else model


def _install(environment: str, shown: Progress) -> None:
    from labkit.environments.install import InstallError, install

    try:
        install(environment, shown.note)
    except InstallError as error:
        raise ServerError(str(error)) from error


def _forget_old_logs() -> None:
    found = sorted(logs().glob("*.log"), key=lambda path: path.stat().st_mtime)
    for path in found[:-KEPT_LOGS]:
        path.unlink(missing_ok=True)

"""What is left of a server when its kernel ends, in every way that a kernel can end: real kernels, real papermill."""
from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

import labkit
from labkit.bench.report import parser, write
from labkit.servers.registry import records

LIMIT = 30.0  # seconds in which everything must be gone
MARK = "LABKIT_HYGIENE"  # in the environment of the kernel and of all that descends from it
SERVE = "import labkit as lab\nserver = lab.serve({name!r}, progress=False, share=False)\nprint(server.record.id)"


@dataclass(slots=True)
class Family:
    """A server, its guard and all their descendants, and the ports that they listen on."""

    processes: list[psutil.Process]
    ports: list[int]
    mark: str

    def left(self) -> list[str]:
        """What is still there."""
        found = {p.pid: p for p in [*self.processes, *_marked(self.mark)] if p.is_running()}
        names = []
        for process in found.values():
            with contextlib.suppress(psutil.Error):
                if process.status() != psutil.STATUS_ZOMBIE:
                    words = process.cmdline()  # none of one that is just ending
                    names.append(f"process {process.pid} ({' '.join([process.name(), *words[1:]])[:60]})")
        return names + [f"port {port}" for port in self.ports if _listens(port)]


def scenarios(name: str, ready: float) -> dict[str, Callable[[str], tuple[Family, float]]]:
    """Each starts a server, ends its kernel in its way, and gives back what to look for and when the end began."""
    return {
        "interrupt": lambda mark: _interrupt(name, mark),
        "restart": lambda mark: _kernel(name, mark, lambda manager: manager.restart_kernel(now=False)),
        "shutdown": lambda mark: _kernel(name, mark, lambda manager: manager.shutdown_kernel(now=False)),
        "sigkill": lambda mark: _kernel(name, mark, lambda manager: os.kill(manager.provisioner.pid, signal.SIGKILL)),
        "papermill timeout": lambda mark: _papermill(name, mark, int(max(20, 6 * ready)), kill=False),
        "papermill sigkill": lambda mark: _papermill(name, mark, 600, kill=True),
    }


def run(name: str, times: int, ready: float, only: str | None = None) -> dict[str, list[dict]]:
    """Every scenario, `times` times: seconds until all was gone, and what was left after `LIMIT` seconds."""
    results: dict[str, list[dict]] = {}
    for scenario, act in scenarios(name, ready).items():
        if only and scenario != only:
            continue
        for _ in range(times):
            family, ended = act(f"{MARK.lower()}-{secrets.token_hex(6)}")
            while (left := family.left()) and time.monotonic() < ended + LIMIT:
                time.sleep(0.05)
            seconds = round(time.monotonic() - ended, 2)
            results.setdefault(scenario, []).append({"seconds": seconds, "left": left, "processes": len(family.processes)})
            print(f"{name}, {scenario}: {'LEFT ' + ', '.join(left) if left else f'gone after {seconds} s'}", file=sys.stderr, flush=True)
    return results


def main(argv: list[str]) -> int:
    """End kernels that hold a server, and look for what is left 30 seconds later."""
    parse = parser("hygiene", main.__doc__)
    parse.add_argument("--server", default="glassbox")
    parse.add_argument("--times", type=int, default=10)
    parse.add_argument("--only", help="one scenario", choices=list(scenarios("", 0)))
    options = parse.parse_args(argv)
    from labkit.servers import serve

    with serve(options.server, share=False, progress=False) as server:
        ready = server.ready_after
    results = run(options.server, options.times, ready, options.only)
    clean = not any(each["left"] for outcomes in results.values() for each in outcomes)
    write(f"hygiene-{options.server}", ["hygiene", *argv], options,
          {"server": options.server, "limit_seconds": LIMIT, "clean": clean, "scenarios": results})
    return 0 if clean else 1


@contextlib.contextmanager
def _kernel_of(mark: str) -> Iterator[tuple]:
    """A kernel and a client of it; the kernel is ended in the end if it is not."""
    from jupyter_client.manager import start_new_kernel

    manager, client = start_new_kernel(kernel_name="python3", env={**os.environ, MARK: mark})
    try:
        yield manager, client
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def _execute(client, code: str, timeout: float = 300.0) -> str:
    """Run a cell; what it printed. Raises RuntimeError when it failed."""
    printed: list[str] = []

    def hear(message: dict) -> None:
        if message["msg_type"] == "stream":
            printed.append(message["content"]["text"])

    reply = {"status": "aborted"}
    while reply["status"] == "aborted":  # a kernel that was just interrupted turns away what was queued
        reply = client.execute_interactive(code, timeout=timeout, output_hook=hear, allow_stdin=False)["content"]
    if reply["status"] != "ok":
        raise RuntimeError(f"{reply.get('ename')}: {reply.get('evalue')}")
    return "".join(printed).strip()


def _kernel(name: str, mark: str, end: Callable) -> tuple[Family, float]:
    with _kernel_of(mark) as (manager, client):
        family = family_of(_execute(client, SERVE.format(name=name)), mark)
        client.execute("import time; time.sleep(600)")
        began = time.monotonic()
        end(manager)
        family.processes = [p for p in family.processes if p.pid != manager.provisioner.pid]
        if manager.is_alive():  # a restarted kernel carries the mark, and is no leftover
            family.mark = ""
    return family, began


def _interrupt(name: str, mark: str) -> tuple[Family, float]:
    """A server that is up survives the stop button; one that is starting is given up, while the kernel goes on."""
    with _kernel_of(mark) as (manager, client):
        family = family_of(_execute(client, SERVE.format(name=name)), mark)
        with tempfile.TemporaryDirectory() as folder:
            busy = Path(folder) / "busy"
            client.execute(f"import time; open({str(busy)!r}, 'w').close(); time.sleep(600)")
            _wait(busy.exists)  # an idle kernel pays no heed to an interrupt
        manager.interrupt_kernel()
        if _execute(client, "print(server.health())") != "True":
            raise RuntimeError("the interrupt hurt the running server")
        known = {record.id for record in records()}
        client.execute(f"lab.serve({name!r}, progress=False, share=False)")
        new = _wait(lambda: [record for record in records() if record.id not in known and _has_mark(record.guard, mark)])
        starting = family_of(new[0].id, mark)
        began = time.monotonic()
        manager.interrupt_kernel()
        _execute(client, "server.stop()")
        family.processes += starting.processes
        family.ports += starting.ports
        family.mark = ""  # the kernel lives on
        while family.left() and time.monotonic() < began + LIMIT:
            time.sleep(0.05)
    return family, began


def _papermill(name: str, mark: str, timeout: int, kill: bool) -> tuple[Family, float]:
    """papermill in a process of its own, ended by a cell that takes too long or by SIGKILL."""
    import nbformat

    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder) / "id"
        cells = [SERVE.format(name=name), f"open({str(told)!r}, 'w').write(server.record.id + '\\n')", "import time; time.sleep(6000)"]
        book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        nbformat.write(book, Path(folder) / "book.ipynb")
        words = [sys.executable, "-m", "papermill", "book.ipynb", "done.ipynb", "-k", "python3", "--execution-timeout", str(timeout)]
        with open(Path(folder) / "said", "w") as said:
            environment = {**os.environ, MARK: mark, "PYTHONPATH": str(Path(labkit.__file__).parents[1])}
            papermill = subprocess.Popen(words, cwd=folder, env=environment, stdout=said, stderr=said, start_new_session=True)
        _wait(lambda: papermill.poll() is not None or told.exists() and told.read_text().endswith("\n"))
        if papermill.returncode is not None:
            raise RuntimeError(f"papermill ended before the server was up: {(Path(folder) / 'said').read_text()[-400:]}")
        family = family_of(told.read_text().strip(), mark)
        if kill:
            papermill.kill()
        papermill.wait()
        return family, time.monotonic()


def family_of(identity: str, mark: str) -> Family:
    """Everything that belongs to the server with this id, now."""
    record = next(record for record in records() if record.id == identity)
    guard = psutil.Process(record.guard)
    return Family([guard, *guard.children(recursive=True)], list(record.ports.values()), mark)


def _marked(mark: str) -> list[psutil.Process]:
    """Processes that inherited the kernel's environment."""
    return [process for process in psutil.process_iter() if _has_mark(process.pid, mark)] if mark else []


def _has_mark(pid: int, mark: str) -> bool:
    try:
        return mark in Path(f"/proc/{pid}/environ").read_text(errors="replace")
    except OSError:
        return False


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _wait(condition: Callable, seconds: float = 300.0):
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError("nothing happened")
        time.sleep(0.02)
    return value

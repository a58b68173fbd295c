"""The guard: the process that owns one server and ends it when nobody uses it any more.

    python -m labkit.servers.guard CONNECTION NAME

Every user of the server (a kernel, a `labkit serve`) holds one connection to the guard, the first one as the inherited file
descriptor CONNECTION. When the last connection ends, for whatever reason, the server and all its descendants are stopped. The
guard has its own session, so that an interrupt of a kernel's process group does not reach it, and the server has another. If
the guard itself is killed, a second process, which holds the read end of a pipe to it, kills the server.

Messages are lines of JSON. To the guard, once: the order. To every user: {"record"}, {"phase", "seconds"}, {"ready": seconds},
{"failed": cause, "tail": lines}, {"stopped": seconds}.
"""
from __future__ import annotations

import contextlib
import ctypes
import http.client
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from labkit.servers.driver import Launch, driver
from labkit.servers.registry import Record, kill_session, started

POLL = 0.05  # seconds between looks at a starting server
REST = 1.0  # seconds between looks at one that serves (its end is signalled at once)
LAST = 1.0  # seconds that the leader of a server has to tidy up behind children that were killed
HASTE = 1.0  # seconds between SIGTERM and SIGKILL for a server that is not ready: it has nothing to finish
TAIL = 1 << 16  # bytes of log that an explanation is sought in
TAIL_LINES = {True: 4, False: 15}  # log lines shown with a failure: few when its cause is known
PR_SET_CHILD_SUBREAPER = 36


class Guard:
    """One server, from its start to its end. Runs in one thread: signals, users and the server's readiness share one loop."""

    def __init__(self, first: socket.socket, order: dict):
        self.driver = driver(order["driver"])
        self.launch = Launch(**order["launch"])
        self.record = Record(**order["record"])
        self.environment = order["environment"]
        self.cwd = order["cwd"]
        self.users: list[socket.socket] = []
        self.leaving: list[socket.socket] = []  # have closed their side and wait to hear that the server has stopped
        self.history: list[dict] = []
        self.ending = False
        self.began = time.monotonic()
        self.selector = selectors.DefaultSelector()
        self.log_read = 0
        self.code: int | None = None  # exit status of the server
        self.listener: socket.socket | None = None
        self._admit(first)

    def run(self) -> None:
        """Start the server, serve its users, stop it. Leaves nothing behind."""
        wake, woken = socket.socketpair()
        for end in (wake, woken):
            end.setblocking(False)
        signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self._end)
        self.selector.register(woken, selectors.EVENT_READ, lambda: woken.recv(4096))
        if self._start():
            while self.users and not self.ending and self.code is None:
                for key, _ in self.selector.select(REST if self.record.ready else POLL):
                    key.data()
                self._reap()
                if not self.record.ready:
                    self._look()
        if self.code is not None and not self.ending:
            self._fail(f"{self.record.name} {'has ended' if self.record.ready else 'could not start'}")
        self._stop()

    # start -----------------------------------------------------------------------------------------------------------
    def _start(self) -> bool:
        environment = {**self.environment, **self.launch.env}
        for name in self.launch.unset:
            environment.pop(name, None)
        watch, self.lifeline = os.pipe()
        self.second = _second(watch, self.lifeline)
        try:
            with open(self.record.log, "ab") as log:
                self.server = subprocess.Popen(self.launch.argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment,
                                               cwd=self.launch.cwd or self.cwd, start_new_session=True)
        except OSError as error:
            self._fail(f"{self.record.name} could not be started: {error}")
            return False
        self.record.pid, self.record.started = self.server.pid, started(self.server.pid)
        os.write(self.lifeline, f"{self.record.pid} {self.record.started}\n".encode())
        self.record.guard, self.record.guard_started = os.getpid(), started(os.getpid())
        try:
            self.listener = socket.socket(socket.AF_UNIX)
            self.listener.bind(self.record.socket)
            self.listener.listen(64)
            self.selector.register(self.listener, selectors.EVENT_READ, lambda: self._admit(self.listener.accept()[0]))
            self.record.write()
        except OSError as error:
            self._fail(f"labkit cannot write its record of the server: {error}")
            return False
        self._tell(self._hello())
        return True

    def _look(self) -> None:
        """News of a server that is starting: what its log says, and whether it answers."""
        ready = self.code is None and answers(self.launch.ready_url)  # asked first: what the log said before is told before
        with contextlib.suppress(OSError), open(self.record.log, "rb") as log:
            log.seek(self.log_read)
            text, _, _ = log.read().rpartition(b"\n")
            self.log_read += len(text) + 1 if text else 0
            for line in text.decode(errors="replace").splitlines():
                if (phase := self.driver.phase(line)) and phase != (self.history[-1].get("phase") if self.history else None):
                    self._remember({"phase": phase, "seconds": round(time.monotonic() - self.began, 2)})
        if ready:
            self.record.ready = True
            self.record.write()
            self._remember({"ready": round(time.monotonic() - self.began, 2)})

    # users -----------------------------------------------------------------------------------------------------------
    def _admit(self, user: socket.socket) -> None:
        user.settimeout(1.0)
        self.users.append(user)
        self.selector.register(user, selectors.EVENT_READ, lambda: self._hear(user))
        if self.listener is not None:
            self._tell(self._hello(), [user])
            for message in self.history:
                self._tell(message, [user])

    def _hear(self, user: socket.socket) -> None:
        with contextlib.suppress(OSError):
            if user.recv(4096):
                return
        self.selector.unregister(user)
        self.users.remove(user)
        self.leaving.append(user)
        if self.users:
            self._tell({"left": len(self.users)}, [user])
            self.leaving.remove(user)
            user.close()

    def _hello(self) -> dict:
        return {"record": asdict(self.record)}

    def _remember(self, message: dict) -> None:
        self.history.append(message)
        self._tell(message)

    def _tell(self, message: dict, users: list[socket.socket] | None = None) -> None:
        data = json.dumps(message).encode() + b"\n"
        for user in list(self.users if users is None else users):
            with contextlib.suppress(OSError):  # one that is gone is noticed by its end of file
                user.sendall(data)

    # end -------------------------------------------------------------------------------------------------------------
    def _end(self, *_: object) -> None:
        self.ending = True

    def _reap(self) -> None:
        """Collect every descendant that has ended; orphans come to this process as their subreaper."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            if pid == self.record.pid:
                self.code = self.server.returncode = os.waitstatus_to_exitcode(status)

    def _fail(self, what: str) -> None:
        log = ""
        with contextlib.suppress(OSError):
            log = Path(self.record.log).read_bytes()[-TAIL:].decode(errors="replace")
        cause = self.driver.explain(log)
        if cause is None and self.code is not None:
            cause = f"it was killed by {signal.Signals(-self.code).name}" if self.code < 0 else f"it exited with status {self.code}"
            if self.code == -signal.SIGKILL:
                cause += ": when labkit did not do it, the system was out of memory, or somebody used kill -9"
        self._tell({"failed": f"{what}: {cause}" if cause else what, "tail": log.splitlines()[-TAIL_LINES[cause is not None]:]})

    def _descendants(self) -> list[psutil.Process]:
        with contextlib.suppress(psutil.Error):
            return [child for child in psutil.Process().children(recursive=True) if child.pid != self.second]
        return []

    def _stop(self) -> None:
        """End the server and everything that descends from it: SIGTERM, time to finish, SIGKILL. Its leader comes last, and may tidy up."""
        begin = time.monotonic()
        grace = self.launch.grace if self.record.ready else HASTE
        if self.listener is not None:
            self.listener.close()
            Path(self.record.socket).unlink(missing_ok=True)
        if self.record.pid:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.record.pid, signal.SIGTERM)
            while self._descendants() and time.monotonic() < begin + grace:
                time.sleep(0.02)
                self._reap()
                if self.code is not None and time.monotonic() > begin + grace / 4:
                    break  # the leader is gone and has left some behind
            last = time.monotonic() + LAST if len(self._descendants()) > 1 else begin
            while left := self._descendants():
                for process in left:
                    if process.pid != self.record.pid or time.monotonic() > last:
                        with contextlib.suppress(psutil.Error):
                            process.kill()
                time.sleep(0.01)
                self._reap()
        self.record.remove()
        os.write(self.lifeline, b"done\n")
        self._tell({"stopped": round(time.monotonic() - begin, 2)}, self.users + self.leaving)


def answers(url: str, timeout: float = 1.0) -> bool:
    """Whether GET `url` gives 200. No proxy, no redirects, no waiting for a port that nobody listens on."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout)
    try:
        connection.request("GET", parts.path or "/")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _second(watch: int, lifeline: int) -> int:
    """Fork the process that kills the server's session should the guard itself be killed. Returns its pid."""
    pid = os.fork()
    if pid:
        os.close(watch)
        return pid
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    highest = os.sysconf("SC_OPEN_MAX") if hasattr(os, "sysconf") else 4096
    os.closerange(3, watch)
    os.closerange(watch + 1, min(highest, 1 << 16))
    text = b""
    while data := os.read(watch, 4096):
        text += data
    lines = text.decode().splitlines()
    if lines and lines[-1] != "done":
        leader, start = lines[0].split()
        kill_session(int(leader), float(start))
    os._exit(0)


def main() -> int:
    if os.fork():  # the user's process is not our parent: it owes us no wait()
        os._exit(0)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)  # a handler, not SIG_IGN, which the server would inherit
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    first = socket.socket(fileno=int(sys.argv[1]))
    first.set_inheritable(False)
    order = json.loads(_line(first))
    os.chdir("/")
    Guard(first, order).run()
    return 0


def _line(connection: socket.socket) -> bytes:
    data = b""
    while not data.endswith(b"\n"):
        more = connection.recv(1 << 16)
        if not more:
            os._exit(0)  # the user is gone before it said what to start
        data += more
    return data


if __name__ == "__main__":
    sys.exit(main())

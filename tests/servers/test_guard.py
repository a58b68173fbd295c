"""The guard, with a server that dies, hangs and spawns in every way. Real processes throughout."""
from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from labkit.environments.home import servers
from labkit.servers import ServerError, attach, preflight, serve, sweep
from labkit.servers.registry import Record, records, started
from tests.servers.conftest import TOY, alive, eventually


def start(**settings):
    return serve(TOY, progress=False, **settings)


def port_is_free(url: str) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return probe.connect_ex(("127.0.0.1", int(url.rsplit(":", 1)[1]))) != 0


def nothing_left(home: Path) -> bool:
    return sorted(path.name for path in (home / "servers").iterdir()) == ["lock"]


def test_a_server_answers_until_it_is_stopped_and_then_leaves_nothing(home):
    with start() as server:
        assert server.health()
        assert server.badge == "stand-in"
        assert [phase for phase, _ in server.startup] == ["loading"]
        assert server.log.read_text().startswith("PHASE loading")
    assert not alive(server.pid)
    assert port_is_free(server.url)
    assert nothing_left(home)
    assert not server.health()


def test_equal_settings_share_one_server_and_each_user_counts(home):
    first, second = start(slow=0.1, deaf=False), start(deaf=False, slow="0.1")
    assert first.pid == second.pid
    first.stop()
    assert second.health()
    second.stop()
    assert not alive(second.pid)


@pytest.mark.parametrize("other", [{"slow": 0.2}, {"share": False}])
def test_other_settings_or_a_wish_not_to_share_give_another_server(home, other):
    with start(slow=0.1) as one, start(**{"slow": 0.1, **other}) as two:
        assert one.pid != two.pid


def test_users_in_different_processes_share_and_the_last_one_ends_the_server(user):
    one, two = user(), user()
    assert one.server["pid"] == two.server["pid"]
    one.end()
    two.do("assert server.health()")
    assert alive(two.server["pid"])
    two.end()
    assert eventually(lambda: not alive(two.server["pid"]))


def test_joining_a_server_that_is_still_starting_waits_for_it(user):
    one = subprocess.Popen([sys.executable, "-m", "labkit", "serve", TOY, "--slow", "2"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        assert eventually(lambda: len(records()) == 1)
        with start(slow=2) as server:
            assert server.health()
            assert len(records()) == 1
    finally:
        one.terminate()
        one.wait()
        one.stdout.close()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_kernel_takes_the_server_and_all_its_descendants_along(user, number):
    owner = user(children=True)
    family = owner.server["family"]
    assert len(family) >= 4  # second guard, server, a child of its group, an orphan in a session of its own
    os.kill(owner.process.pid, number)
    owner.process.wait()
    assert eventually(lambda: not any(map(alive, family)))
    assert port_is_free(owner.server["url"])


def test_an_interrupt_of_the_kernel_does_not_reach_the_server(user):
    owner = user()
    owner.do("import signal; signal.signal(signal.SIGINT, lambda *_: None)")
    os.killpg(owner.process.pid, signal.SIGINT)
    owner.do("assert server.health()")
    assert alive(owner.server["pid"])


def test_a_forked_child_of_the_kernel_does_not_hold_the_server_up(user):
    owner = user()
    owner.do("child = os.fork() or (os.setsid(), __import__('time').sleep(60), os._exit(0))")
    owner.end()
    assert eventually(lambda: not alive(owner.server["pid"]))


def test_a_handle_that_is_dropped_stops_the_server(home):
    pid = start().pid
    assert eventually(lambda: not alive(pid))


def test_a_server_that_ignores_sigterm_is_killed_in_the_end(home):
    server = start(deaf=True)
    server.stop()
    assert not alive(server.pid)


def test_a_server_whose_children_had_to_be_killed_may_tidy_up_behind_them(home):
    server = start(tidy=str(home / "tidied"))
    family = [process.pid for process in psutil.Process(server.pid).children()]
    server.stop()
    assert (home / "tidied").exists() and not any(map(alive, [server.pid, *family]))


def test_a_killed_guard_takes_the_server_along(user):
    owner = user()
    guard = next(record.guard for record in records())
    os.kill(guard, signal.SIGKILL)
    assert eventually(lambda: not alive(owner.server["pid"]))
    assert port_is_free(owner.server["url"])


def test_sweep_ends_what_a_guard_left_behind_when_its_second_was_killed_too(user, home):
    owner = user(children=True)
    record = next(iter(records()))
    second = next(pid for pid in owner.server["family"] if psutil.Process(pid).ppid() == record.guard and pid != record.pid
                  and os.getsid(pid) == pid and psutil.Process(pid).cmdline()[1:3] == ["-m", "labkit.servers.guard"])
    os.kill(second, signal.SIGKILL)
    os.kill(record.guard, signal.SIGKILL)
    assert eventually(lambda: not alive(record.guard))
    assert alive(owner.server["pid"])
    assert sweep() == ["toy"]
    assert eventually(lambda: not alive(owner.server["pid"]))
    assert nothing_left(home)
    for pid in owner.server["family"]:  # what left the session cannot be known to be ours once both guards are gone
        if alive(pid):
            os.kill(pid, signal.SIGKILL)


def test_sweep_leaves_a_process_alone_that_only_has_the_same_pid(home):
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    try:
        record = Record(id="x", key="k", name="toy", badge="live", url="", ready_url="", metrics_url="", model="", model_folder="",
                        flags=[], log="", folder=str(home / "nothing"), socket=str(servers() / "x.sock"), pid=bystander.pid,
                        started=started(bystander.pid) + 100)
        record.write()
        assert sweep() == []
        assert alive(bystander.pid)
        replace(record, started=record.started - 100).write()
        assert sweep() == ["toy"]
        assert bystander.wait(5) == -signal.SIGKILL
    finally:
        bystander.kill()
        bystander.wait()


def test_a_failed_start_shows_its_cause_and_its_log_and_leaves_nothing(home):
    with pytest.raises(ServerError, match="could not start: no such model") as failure:
        start(fail="no such model")
    assert "CAUSE no such model" in str(failure.value)
    assert str(home / "logs") in str(failure.value)
    assert eventually(lambda: nothing_left(home))


def test_a_wrong_option_shows_the_servers_own_message(home):
    with pytest.raises(ServerError, match="unrecognized arguments: --no-such-option 3"):
        start(no_such_option=3)


def test_a_server_that_dies_while_starting_says_how(home):
    with pytest.raises(ServerError, match="could not start: it was killed by SIGKILL"):
        start(kill=True)


def test_a_start_that_takes_too_long_ends_with_the_phase_it_was_in(home):
    with pytest.raises(ServerError, match="not ready after 8 s while loading"):
        start(slow=60, timeout=8)
    assert eventually(lambda: nothing_left(home))


def test_a_server_that_dies_later_is_told_of_with_its_cause(home):
    server = start()
    with pytest.raises((http.client.HTTPException, OSError)):
        urllib.request.urlopen(server.url + "/die", timeout=5)
    assert eventually(lambda: server.fault() is not None)
    assert "killed by SIGKILL" in server.fault()
    assert not server.health()
    with pytest.raises(ServerError, match="killed by SIGKILL"):
        server.metrics()
    server.stop()
    assert eventually(lambda: nothing_left(home))


def test_a_taken_port_is_refused_with_its_holder(home):
    with socket.create_server(("127.0.0.1", 0)) as holder:
        with pytest.raises(ServerError, match=rf"is taken by process {os.getpid()} \(.*another port"):
            start(port=holder.getsockname()[1])
    assert nothing_left(home)


def test_too_little_memory_is_refused_before_the_start(home):
    with pytest.raises(ServerError, match=r"needs about 1048576\.0 GiB of memory and .* GiB are available"):
        start(memory=1 << 50)
    assert nothing_left(home)


def test_a_full_disk_is_refused_before_the_start(home, monkeypatch):
    monkeypatch.setattr(preflight, "LEAST_DISK", 1 << 60)
    with pytest.raises(ServerError, match="disk that holds .* is full .*LABKIT_HOME"):
        start()


def test_a_model_that_is_not_there_is_refused_before_the_start(home):
    with pytest.raises(ServerError, match="no model '/no/such/folder'"):
        start(model="/no/such/folder")


def test_an_unknown_server_is_refused_with_the_known_ones():
    with pytest.raises(ServerError, match="labkit knows glassbox, vllm, triton"):
        serve("vlm")


def test_metrics_are_summed_over_their_labels(home):
    with start() as server:
        assert server.metrics()["toy_requests_total"] == 3.0


def test_attach_knows_a_server_of_this_machine_and_does_not_hold_it(home):
    with start() as server:
        other = attach(server.url + "/v1/")
        assert (other.pid, other.log, other.model) == (server.pid, server.log, "toy")
        other.stop()
        assert server.health()
    with pytest.raises(ServerError, match="no server answers on"):
        attach(server.url)


def test_records_and_sockets_are_for_this_user_only(home):
    with start():
        assert servers().stat().st_mode & 0o777 == 0o700

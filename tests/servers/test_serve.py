"""`serve` and `labkit serve` with the glass box."""
from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys

import psutil
import pytest

from labkit.servers import ServerError, serve
from labkit.servers.registry import records
from labkit.trace import Step, read, subscribe
from tests.servers.conftest import REPOSITORY, alive, eventually

SMALL = {"num_gpu_blocks_override": 64, "max_model_len": 512}


def stream(server, **more):
    """An answer under way: the connection and its response, of which one token has been read."""
    connection = http.client.HTTPConnection("127.0.0.1", server.ports["http"], timeout=30)
    body = {"model": server.model, "prompt": "Once upon a time", "max_tokens": 400, "stream": True, "ignore_eos": True, **more}
    connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
    response = connection.getresponse()
    assert response.readline().startswith(b"data: ")
    return connection, response


def arrivals(run_file) -> int:
    return sum(len(event.arrived) for event in read(run_file).events if isinstance(event, Step))


def test_the_glass_box_serves_traces_and_stops(home):
    with serve("glassbox", progress=False, **SMALL) as server:
        assert (server.badge, server.model, server.options) == ("live", "tiny", {"num_gpu_blocks_override": "64", "max_model_len": "512"})
        assert server.metrics()["glassbox:kv_cache_usage_perc"] == 0
        with subscribe(server.trace_socket) as live:
            assert live.header.configuration["num_blocks"] == 64
        connection, response = stream(server, max_tokens=8)
        response.read()
        connection.close()
    assert arrivals(server.run_file) == 1
    assert not alive(server.pid)


@pytest.mark.parametrize("moment", ["labkit.servers.connection._hello", "labkit.servers.server._await"])
def test_an_interrupt_at_any_moment_of_a_start_gives_the_server_up(home, monkeypatch, moment):
    def interrupted(*_):
        assert eventually(records)  # the server's process is there
        raise KeyboardInterrupt

    monkeypatch.setattr(moment, interrupted)
    with pytest.raises(KeyboardInterrupt) as kept:  # a notebook keeps the traceback, and with it the frames of the start
        serve("glassbox", progress=False, **SMALL)
    assert kept.traceback and eventually(lambda: not records())


def test_a_server_that_dies_in_mid_stream_ends_the_stream_and_says_why(home):
    with serve("glassbox", progress=False, max_steps_per_second=50, **SMALL) as server:
        family = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
        connection, response = stream(server)
        family[0].kill()
        rest = b""
        try:
            while data := response.read1():
                rest += data
        except (http.client.HTTPException, OSError):
            pass
        connection.close()
        assert b"[DONE]" not in rest
        assert eventually(lambda: server.fault() is not None)
        assert "glassbox has ended: it was killed by SIGKILL" in server.fault()
        assert eventually(lambda: not any(alive(process.pid) for process in family))
    assert arrivals(server.run_file) == 1


@pytest.mark.parametrize(("settings", "said"), [
    ({"no_such_option": 3}, "unrecognized arguments: --no-such-option 3"),
    ({"block_size": 0}, "block.size"),
    ({"model": str(REPOSITORY)}, "no config.json"),
])
def test_what_is_wrong_is_said_and_nothing_stays(home, settings, said):
    with pytest.raises(ServerError, match=said):
        serve("glassbox", progress=False, **settings)
    assert eventually(lambda: not list((home / "servers").glob("*.json")))


def command(*words):
    return subprocess.Popen([sys.executable, "-m", "labkit", "serve", *words], cwd=REPOSITORY, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_prints_one_line_of_json_and_serves_until_it_is_told_to_end(home, number):
    process = command("glassbox", "--num-gpu-blocks-override", "64", "--max-model-len=512", "--json")
    said = json.loads(process.stdout.readline())
    assert set(said) >= {"name", "url", "pid", "badge", "log"}
    assert (said["name"], said["badge"]) == ("glassbox", "live")
    with serve("glassbox", progress=False, **SMALL) as joined:
        assert joined.pid == said["pid"]  # the same settings, from Python and from the command line
    assert alive(said["pid"])
    process.send_signal(number)
    assert process.wait(20) in (0, 130)
    assert not alive(said["pid"])
    process.communicate()


def test_the_command_fails_with_a_status_and_a_message(home):
    process = command("glassbox", "--max-num-seqs", "none", "--json")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "invalid int value: 'none'" in json.loads(out.splitlines()[-1])["error"]
    assert "labkit serve: " in err

"""Ports for servers that take long to start."""
from __future__ import annotations

import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from labkit.servers import ServerError, preflight

HANDED_OUT = Path("/proc/sys/net/ipv4/ip_local_port_range")


@pytest.mark.skipif(not HANDED_OUT.exists(), reason="says Linux alone")
def test_ports_are_different_and_none_that_the_system_hands_out():
    ports = preflight.free_ports(200)
    first, last = map(int, HANDED_OUT.read_text().split())
    assert len(set(ports)) == 200
    assert not any(first <= port <= last for port in ports)


def test_a_port_that_is_taken_is_not_among_them_and_too_few_are_said_so(monkeypatch):
    ports = sorted(preflight.free_ports(3))
    monkeypatch.setattr(preflight, "PORTS", ports)
    with ExitStack() as stack:
        for port in ports[:2]:
            taken = stack.enter_context(socket.socket())
            taken.bind((preflight.HOST, port))
            taken.listen()
        assert preflight.free_ports(1) == [ports[2]]
        with pytest.raises(ServerError, match=f"fewer than 2 ports from {ports[0]} to {ports[2]} are free: stop some servers"):
            preflight.free_ports(2)
    assert sorted(preflight.free_ports(3)) == ports

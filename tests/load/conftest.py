import json
import subprocess
import sys
from pathlib import Path

import pytest


def order(**what) -> str:
    return json.dumps({"first": 0.0, "gap": 0.0, **what})


@pytest.fixture
def mock_url():
    """A mock server of this test's own (some tests make it die)."""
    server = subprocess.Popen([sys.executable, Path(__file__).with_name("mock_server.py")], stdout=subprocess.PIPE, text=True)
    try:
        yield f"http://127.0.0.1:{int(server.stdout.readline())}"
    finally:
        server.kill()
        server.wait()
        server.stdout.close()


@pytest.fixture
def asks():
    """Writes prompts for the mock server."""
    return order

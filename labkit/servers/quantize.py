"""Quantizing a running glass box, over HTTP."""
from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

from labkit.servers.driver import ServerError

OWNERS = ("glassbox", "labkit")  # of a server that labkit started, and of one that was found at its address
LONGEST = 1800.0  # seconds that quantizing a large model may take


def quantize(name: str, url: str, settings: dict[str, Any]) -> dict[str, Any]:
    """POST /quantize to the server `name` at `url`; what it changed. Raises `ServerError` naming cause and remedy."""
    if name not in OWNERS:
        raise ServerError(
            f"{name} cannot be quantized while it runs, only the glass box can: stop it and serve a checkpoint that `labkit quantize` wrote"
        )
    body = json.dumps({key: value for key, value in settings.items() if value is not None}).encode()
    request = urllib.request.Request(f"{url}/quantize", body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=LONGEST) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        raise ServerError(_message(error)) from error
    except OSError as error:
        raise ServerError(f"{name} does not answer on {url}: {error}") from error


def _message(error: urllib.error.HTTPError) -> str:
    """The server's own words."""
    try:
        return json.load(error)["error"]["message"]
    except (ValueError, LookupError, TypeError):
        return f"{error.url} answers {error.code} {error.reason}"

"""A stand-in for Docker's client, put on PATH as `docker`: it notes every call in $FAKE_DOCKER/calls, and its "containers" are
processes in sessions of their own, which outlive the client that started them, as real ones do."""
import http.server
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

STATE = Path(os.environ["FAKE_DOCKER"])


class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def end(name: str, number: int) -> None:
    try:
        os.kill(int((STATE / name).read_text()), number)
    except (OSError, ValueError):
        sys.exit(f"Error response from daemon: No such container: {name}")


def main(words: list[str]) -> None:
    with open(STATE / "calls", "a") as calls:
        calls.write(json.dumps(words) + "\n")
    match words[0]:
        case "info":
            sys.exit(os.environ.get("FAKE_DOCKER_DOWN"))  # a text is an error message and status 1
        case "run":
            name = words[words.index("--name") + 1]
            port = next(word.split(":")[1] for word in words if word.endswith(":8000"))
            with subprocess.Popen([sys.executable, __file__, "container", port], start_new_session=True) as container:
                (STATE / name).write_text(str(container.pid))
                sys.exit(container.wait())
        case "container":
            http.server.HTTPServer(("127.0.0.1", int(words[1])), Ready).serve_forever()
        case "stop":
            end(words[-1], signal.SIGTERM)
        case "rm":
            end(words[-1], signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1:])

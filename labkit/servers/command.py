"""`labkit serve NAME`: a server from a terminal, for as long as the command runs."""
from __future__ import annotations

import argparse
import json
import signal
import sys

from labkit.servers.driver import DRIVERS, ServerError
from labkit.servers.server import LONGEST, serve


def main(argv: list[str]) -> int:
    """Start (or join) a server, say where it is, stay until Ctrl-C. All other options go to the server as they are."""
    parser = argparse.ArgumentParser(prog="labkit serve", usage="labkit serve NAME [OPTIONS]", allow_abbrev=False, description=main.__doc__,
                                     epilog="example: labkit serve vllm --max-num-seqs 8 --num-gpu-blocks-override 64")
    parser.add_argument("name", help=f"which server: {', '.join(DRIVERS)}")
    parser.add_argument("--model", default="tiny", help="'tiny' (shipped), a folder, or a hub name")
    parser.add_argument("--port", type=int, help="default: a free one")
    parser.add_argument("--timeout", type=float, default=LONGEST, help="seconds that the start may take (default %(default)s)")
    parser.add_argument("--own", action="store_true", help="do not share a server that runs with the same settings")
    parser.add_argument("--json", action="store_true", help="print one line of JSON when the server is ready")
    known, flags = parser.parse_known_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        with serve(known.name, model=known.model, port=known.port, share=not known.own, timeout=known.timeout, flags=flags,
                   progress=True) as server:
            if known.json:
                print(json.dumps({"name": server.name, "url": server.url, "pid": server.pid, "badge": server.badge, "log": str(server.log),
                                  "model": server.model, "ready_after": server.ready_after, "ports": server.ports,
                                  "run_file": str(server.run_file) if server.run_file else None,
                                  "trace_socket": str(server.trace_socket) if server.trace_socket else None}), flush=True)
            else:
                print(f"{server.url}  (log {server.log}; Ctrl-C stops it)", flush=True)
            server.wait()
    except ServerError as error:
        if known.json:
            print(json.dumps({"error": str(error)}), flush=True)
        print(f"labkit serve: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0

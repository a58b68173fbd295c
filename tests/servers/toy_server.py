"""The program that `toy.Toy` starts."""
import argparse
import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int)
parser.add_argument("--fail")
parser.add_argument("--memory")
parser.add_argument("--slow", type=float, default=0)
parser.add_argument("--children", action="store_true")
parser.add_argument("--deaf", action=argparse.BooleanOptionalAction)
parser.add_argument("--tidy", help="file that is made when the child that it then has is gone")
parser.add_argument("--kill", action="store_true")
options = parser.parse_args()
print("PHASE loading", flush=True)
if options.deaf or options.tidy:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
sleeper = [sys.executable, "-c", "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"]
if options.tidy:
    child = subprocess.Popen(sleeper)
    threading.Thread(target=lambda: (child.wait(), open(options.tidy, "w").close(), os._exit(0)), daemon=True).start()
if options.children:  # one in the group, one that leaves it and is orphaned
    subprocess.Popen(sleeper)
    if os.fork() == 0:
        subprocess.Popen(sleeper, start_new_session=True)
        os._exit(0)
    os.wait()
time.sleep(options.slow)
if options.kill:
    os.kill(os.getpid(), signal.SIGKILL)
if options.fail:
    print("CAUSE", options.fail, flush=True)
    sys.exit(3)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/die":
            os.kill(os.getpid(), signal.SIGKILL)
        self.send_response(200)
        self.end_headers()
        if self.path == "/metrics":
            self.wfile.write(b'# TYPE toy_requests counter\ntoy_requests_total{kind="a"} 1\ntoy_requests_total{kind="b"} 2\n')

    def log_message(self, *_: object) -> None:
        pass


ThreadingHTTPServer(("127.0.0.1", options.port), Handler).serve_forever()

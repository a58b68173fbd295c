"""`make lab` and `make test`: from a bare Python to the lab, with the standard library only.

python3 -m labkit.environments.bootstrap lab              # JupyterLab on notebooks/00_welcome.ipynb
python3 -m labkit.environments.bootstrap test [PYTEST ...]
python3 -m labkit.environments.bootstrap python [ARGUMENT ...]
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FIRST = "notebooks/00_welcome.ipynb"
# Numba compiles a kernel when it is first called, and keeps the result beside the source.
COMPILE = """
from labkit.glassbox.build import build_runner
from labkit.glassbox.options import EngineOptions
from labkit.glassbox.warm_up import warm_up
from labkit.models import folder
options = EngineOptions()
warm_up(build_runner(folder("tiny"), options)[0], options)
"""


def main(argv: list) -> int:
    task, *rest = argv or ["lab"]
    if task not in ("lab", "test", "python"):
        print(__doc__, file=sys.stderr)
        return 2
    if os.name == "nt":
        say("The lab runs on Linux and macOS. On Windows, run it inside WSL 2: https://learn.microsoft.com/windows/wsl/install")
        return 1
    if sys.version_info < (3, 11):  # noqa: UP036 (whatever Python a user has is what runs this)
        say(f"The lab needs Python 3.11 or newer; this is {sys.version.split()[0]}. Name another: make {task} PYTHON=python3.11")
        return 1
    from labkit.environments.uv import InstallError

    try:
        python = prepare()
    except InstallError as error:
        say(f"\n{error}")
        return 1
    except KeyboardInterrupt:
        say("\nStopped. Run it again to go on.")
        return 130
    path = f"{python.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    environ = os.environ | {"VIRTUAL_ENV": str(python.parents[1]), "PATH": path, "JUPYTER_PREFER_ENV_PATH": "1"}
    words = {"lab": jupyter, "test": lambda: ["-m", "pytest"], "python": list}[task]()
    os.chdir(ROOT)
    sys.stdout.flush()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell starts what runs in its background with Ctrl-C ignored
    os.execve(python, [str(python), *words, *rest], environ)


def prepare() -> Path:
    """Make `.venv` unless it is there and whole; return its Python."""
    from labkit.environments.build import Environment, build
    from labkit.environments.recipes import lab

    environment = Environment("lab", ROOT / ".venv")
    if build(environment, lab(ROOT), ROOT / ".labkit", say, screen=sys.stderr.isatty()):
        calm(environment.folder)
        subprocess.run([str(environment.python), "-c", COMPILE], cwd=ROOT, check=False)  # a start does it too, and takes longer then
        say(f"The lab is set up in {environment.folder} ({environment.stamp()['seconds']:.0f} s).")
    return environment.python


def calm(folder: Path) -> None:
    """No pop-up about news and updates in a newcomer's first minute."""
    settings = folder / "share" / "jupyter" / "lab" / "settings" / "overrides.json"
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.write_text(json.dumps({"@jupyterlab/apputils-extension:notification": {"checkForUpdates": False, "fetchNews": "false"}}))


def jupyter() -> list:
    """Arguments for Python: JupyterLab on 127.0.0.1, with the token it draws itself, no question asked at Ctrl-C."""
    page = f"/lab/tree/{FIRST}" if (ROOT / FIRST).exists() else "/lab"
    words = ["-m", "jupyterlab", "-y", "--log-level=WARN", "--ServerApp.ip=127.0.0.1"]
    words += [f"--ServerApp.root_dir={ROOT}", f"--LabApp.default_url={page}", "--LanguageServerManager.autodetect=False"]
    if not browser():
        words.append("--no-browser")
    if os.geteuid() == 0:
        words.append("--allow-root")
    say("Starting JupyterLab. Ctrl-C ends it, and everything it started.")
    return words


def browser() -> bool:
    """Whether someone sits here to whom a browser window can be shown."""
    shown = sys.platform == "darwin" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    return bool(shown) and sys.stdout.isatty()


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

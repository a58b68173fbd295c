"""Making an environment from a lock, once, however often it is interrupted. Standard library only: it makes the lab's own environment too.

An environment is trusted when its stamp, written last, bears the digest of today's locks, and every package it lists is there.
Anything else is removed and made anew (uv's cache makes that a matter of seconds).
"""

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from labkit.environments.lockfile import locked
from labkit.environments.recipes import PYTHON, Recipe
from labkit.environments.uv import REQUIREMENTS, InstallError, Progress, Uv, find

TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
STAMP = "labkit.json"


@dataclass(frozen=True, slots=True)
class Environment:
    """An environment's folder. The paths hold whether or not it has been made."""

    name: str
    folder: Path

    @property
    def bin(self) -> Path:
        return self.folder / "bin"

    @property
    def python(self) -> Path:
        return self.bin / "python"

    @property
    def site_packages(self) -> Path:
        return self.folder / "lib" / f"python{PYTHON}" / "site-packages"

    def stamp(self) -> dict:
        """What was written when the environment was complete; {} when it never was."""
        try:
            return json.loads((self.folder / STAMP).read_text())
        except (OSError, ValueError):
            return {}

    def packages(self) -> dict[str, str]:
        """Version by normalised name, from the metadata folders on the disk."""
        found = (path.name.removesuffix(".dist-info").split("-", 1) for path in self.site_packages.glob("*.dist-info"))
        return {name.lower().replace("_", "-"): version for name, version in found}

    def flaw(self, recipe: Recipe) -> str | None:
        """Why this environment cannot be used as it is, or None. Milliseconds: it is asked at every start."""
        stamp = self.stamp()
        if not stamp:
            return "an interrupted installation" if self.folder.exists() else "not installed"
        if stamp.get("digest") != recipe.digest():
            return "made from an older lock"
        if stamp.get("folder") != str(self.folder):
            return f"moved here from {stamp.get('folder')}"
        if not os.access(self.python, os.X_OK):
            return "its Python is gone"
        missing = sorted(set(stamp["packages"].items()) - set(self.packages().items()))
        return f"{', '.join(name for name, _ in missing[:5])} missing or changed" if missing else None

    def damage(self) -> list[str]:
        """Files that the packages' own records list with another size or not at all on the disk. About a second."""
        hurt = []
        for record in self.site_packages.glob("*.dist-info/RECORD"):
            for line in record.read_text().splitlines():
                name, _, size = (part.strip('"') for part in line.rsplit(",", 2))
                path = self.site_packages / name
                if path.suffix == ".pyc":
                    continue
                try:
                    if size and path.stat().st_size != int(size):
                        hurt.append(name)
                except OSError:
                    hurt.append(name)
        return hurt


def check_disk(folder: Path, recipe: Recipe) -> None:
    """Raises `InstallError` when the disk below `folder` has too little room."""
    at = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(at).free
    if free < recipe.disk:
        raise InstallError(
            f"{folder.name} needs about {recipe.disk / 1e9:.1f} GB on the disk of {at}, which has {free / 1e9:.1f} GB free. "
            "Free some space, or set LABKIT_HOME to a folder on a larger disk."
        )


def build(environment: Environment, recipe: Recipe, workshop: Path, progress: Progress, screen: bool = False) -> bool:
    """Make `environment` true to `recipe`; False when it already was. Raises `InstallError`.

    `workshop` is the folder for uv and lock files. With `screen`, uv draws its bars on this terminal in place of lines to `progress`.
    """
    if environment.flaw(recipe) is None:
        return False
    folder = environment.folder
    with locked(workshop / f"{environment.name}.lock", progress) as lock:
        flaw = environment.flaw(recipe)
        if flaw is None:
            return False
        began = time.monotonic()
        check_disk(folder, recipe)
        uv = find(workshop, progress)
        if folder.exists():
            progress(f"{environment.name}: {flaw}; making it anew")
            (folder / STAMP).unlink(missing_ok=True)
            shutil.rmtree(folder)

        def install(*words: str | Path, what: str, with_uv: Uv = uv) -> None:
            progress(what)
            target = ("pip", "install", "--python", environment.python, "--no-deps")
            with_uv.run(*target, *words, doing=what, progress=None if screen else progress, keep=lock)

        words = ("venv", "--quiet", "--no-project", "--python", interpreter(), folder)
        uv.run(*words, doing="making the environment", progress=progress, keep=lock)
        locks = [word for name in recipe.locks for word in ("-r", REQUIREMENTS / name)]
        install("--require-hashes", *locks, what=f"installing {' and '.join(recipe.locks)}")
        if recipe.torch:
            source = torch_source(uv, recipe.torch, environment, lock)
            install("--require-hashes", "-r", REQUIREMENTS / recipe.torch, what=f"installing {recipe.torch}", with_uv=source)
        if recipe.project:
            install("--no-build-isolation", "--editable", recipe.project, what="installing labkit")
        prove(environment, recipe)
        stamp = {"digest": recipe.digest(), "folder": str(folder), "packages": environment.packages()}
        stamp["seconds"] = round(time.monotonic() - began, 1)
        temporary = folder / f"{STAMP}.new"
        temporary.write_text(json.dumps(stamp, indent=1))
        os.replace(temporary, folder / STAMP)
    return True


def interpreter() -> str:
    """The Python to make environments from: the one that runs (outside of any environment) if it is 3.11; else uv finds or fetches one."""
    running = Path(sys.base_prefix) / "bin" / f"python{PYTHON}"
    return str(running) if sys.version_info[:2] == (3, 11) and running.exists() else PYTHON


def torch_source(uv: Uv, lock_file: str, environment: Environment, lock: int) -> Uv:
    """The uv that finds this torch: with the user's own settings where they offer it, otherwise with PyTorch's CPU index."""
    configured = ("UV_FIND_LINKS", "UV_EXTRA_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX")
    elsewhere = Uv(uv.binary, uv.environ | {"UV_DEFAULT_INDEX": TORCH_CPU_INDEX})
    if lock_file != "torch-cpu.txt" or sys.platform == "darwin":
        return uv
    if not any(uv.environ.get(name) for name in configured):
        return elsewhere
    words = ("pip", "install", "--dry-run", "--python", environment.python, "--no-deps", "--require-hashes", "-r", REQUIREMENTS / lock_file)
    try:
        uv.run(*words, doing="looking for torch", progress=lambda line: None, keep=lock)
    except InstallError:
        return elsewhere
    return uv


def prove(environment: Environment, recipe: Recipe) -> None:
    """Run the recipe's proof in the environment. Raises `InstallError` with what Python said."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    command = [str(environment.python), "-c", recipe.proof]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, cwd=environment.folder, env=environ)
    if done.returncode:
        said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-6:]) or f"it ended with status {done.returncode}"
        raise InstallError(f"the packages of {environment.folder.name} are in place but do not work on this machine:\n{said}")

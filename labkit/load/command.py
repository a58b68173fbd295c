"""`labkit load URL`: the load generator on the command line."""
from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path


def main(argv: list[str]) -> int:
    """Run a load and print its table; with `--json`, one JSON object on the last line.

    Returns 0 if every request ended well, 130 after Ctrl-C, else 1.
    """
    from labkit.load.process import LoadError
    from labkit.load.prompts import Prompts
    from labkit.load.run import load

    args = parser().parse_args(argv)
    try:
        prompts = args.prompt or Prompts(length=args.length, max_tokens=args.max_tokens, shared_prefix=args.shared_prefix,
                                         kind="chat" if args.chat else "text", temperature=args.temperature)
        if args.prompt and args.chat:
            prompts = [[{"role": "user", "content": text}] for text in args.prompt]
        result = load(args.url, args.requests, args.rate, args.concurrency, args.seed, prompts=prompts, max_tokens=args.max_tokens,
                      temperature=args.temperature, model=args.model, extra={"ignore_eos": True} if args.ignore_eos else None,
                      objectives=dict(args.objective), request_timeout=args.request_timeout, timeout=args.timeout)
    except (LoadError, ValueError) as error:
        print(f"labkit load: {error}", file=sys.stderr)
        if args.json:
            print(json.dumps({"error": str(error), "cause": getattr(error, "cause", "plan")}))
        return 1
    if args.save:
        result.save(args.save)
    if args.plot:
        result.plot().savefig(args.plot, dpi=200)
    print(result.table(), file=sys.stderr if args.json else sys.stdout)
    if args.json:
        print(json.dumps(result.provenance() | result.summary()))
    if result.reason == "stopped":
        return 130
    return 0 if all(record.ok for record in result.records) and len(result.records) == result.requests else 1


def parser() -> argparse.ArgumentParser:
    about = "Send requests to an OpenAI-compatible server, streaming, and measure every answer."
    parse = argparse.ArgumentParser(prog="labkit load", description=about)
    parse.add_argument("url", help="the server's root, http://host:port")
    parse.add_argument("--requests", type=int, default=32, metavar="N")
    parse.add_argument("--rate", type=float, metavar="R", help="requests per second, Poisson arrivals; without it, a closed loop")
    parse.add_argument("--concurrency", type=int, metavar="N", help="users of the closed loop (8), or the most in flight at a rate")
    parse.add_argument("--seed", type=int, default=0, help="of arrivals and prompts")
    parse.add_argument("--model", help="default: the first that the server names")
    parse.add_argument("--prompt", action="append", metavar="TEXT", help="ask this instead of drawn prompts; may be repeated")
    parse.add_argument("--chat", action="store_true", help="/v1/chat/completions instead of /v1/completions")
    parse.add_argument("--length", type=token_range, default=(16, 48), metavar="N[-M]", help="words of a drawn prompt")
    parse.add_argument("--shared-prefix", type=float, default=0.0, metavar="SHARE", help="share of a drawn prompt that all have in common")
    parse.add_argument("--max-tokens", type=token_range, default=(32, 32), metavar="N[-M]")
    parse.add_argument("--temperature", type=float, default=0.0)
    parse.add_argument("--ignore-eos", action="store_true", help="always generate max-tokens (servers that know the option)")
    parse.add_argument("--objective", type=_objective, action="append", default=[], metavar="NAME=MS",
                       help="for goodput: ttft=500, tpot=35, e2e=...")
    parse.add_argument("--request-timeout", type=float, default=120.0, metavar="S")
    parse.add_argument("--timeout", type=float, default=600.0, metavar="S", help="of the whole run")
    parse.add_argument("--save", type=Path, metavar="FILE", help="write everything, records included, as JSON")
    parse.add_argument("--plot", type=Path, metavar="FILE", help="write the picture (png, svg, pdf)")
    parse.add_argument("--json", action="store_true", help="the summary as one JSON object on the last line")
    return parse


def token_range(text: str) -> tuple[int, int]:
    """A number, or a range like 16-48, as its two ends. Raises ArgumentTypeError."""
    low, _, high = text.partition("-")
    try:
        return int(low), int(high or low)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number nor a range like 16-48") from None


def _objective(text: str) -> tuple[str, float]:
    name, _, limit = text.partition("=")
    try:
        return name, float(limit)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not an objective like ttft=500") from None

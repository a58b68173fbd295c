"""`labkit race`: batching policies raced on the command line."""
from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from labkit.race.step_cost import StepCost


def main(argv: list[str]) -> int:
    """Race and print the table; with `--json`, one JSON object on the last line.

    Returns 0 if every policy kept the laws, 130 after Ctrl-C, else 1.
    """
    from labkit.glassbox.kv_cache import OutOfMemory
    from labkit.glassbox.options import OptionsError
    from labkit.models.registry import ModelError
    from labkit.race.run import race
    from labkit.race.workload import Workload

    args = parser().parse_args(argv)
    try:
        workload = Workload.make(args.requests, args.rate, prompt_tokens=args.prompt_tokens, output_tokens=args.output_tokens,
                                 prefix_overlap=args.prefix_overlap, seed=args.seed)
        policies = [(name, parameters(name, args)) for name in args.policies]
        result = race(policies, workload, num_blocks=args.num_blocks, block_size=args.block_size, max_num_seqs=args.max_num_seqs,
                      max_num_batched_tokens=args.max_num_batched_tokens, enable_prefix_caching=args.enable_prefix_caching,
                      clock=clock(args), model=args.model, show=False, progress=True)
    except (OptionsError, ModelError, OutOfMemory, ValueError, OSError) as error:
        print(f"labkit race: {error}", file=sys.stderr)
        if args.json:
            print(json.dumps({"error": str(error)}))
        return 1
    for path, picture in ((args.out, result.plot), (args.ledger, result.ledger)):
        if path and result.runs:
            path.write_bytes(picture().png())
    if args.runs:
        args.runs.mkdir(parents=True, exist_ok=True)
        for name, run in result.runs.items():
            run.save(args.runs / f"{name}.jsonl")
    print(result.table(), file=sys.stderr if args.json else sys.stdout)
    if args.json:
        print(result.to_json())
    return 130 if not result.complete else 1 if result.broken else 0


def parameters(name: str, args: argparse.Namespace) -> dict:
    """Of those on the command line, the ones that this policy has."""
    from labkit.glassbox.policies import find_policy
    from labkit.glassbox.policies.parameters import parameters_of

    return {key: value for key in parameters_of(find_policy(name)) if (value := getattr(args, key, None)) is not None}


def clock(args: argparse.Namespace) -> str | StepCost:
    """The clock that is asked for; a step cost that is measured now is kept where `--save-cost` says."""
    from labkit.race.calibration import calibrate
    from labkit.race.step_cost import StepCost

    if args.clock == "real":
        return "real"
    if args.clock != "cost" and not Path(args.clock).exists():
        raise ValueError(f"--clock is real, cost, or a file that --save-cost wrote: there is no file {args.clock}")
    cost = calibrate(args.model, seed=args.seed) if args.clock == "cost" else StepCost.load(args.clock)
    if args.save_cost:
        cost.save(args.save_cost)
    return cost


def parser() -> argparse.ArgumentParser:
    from labkit.glassbox.policies import POLICIES
    from labkit.glassbox.policies.parameters import add_arguments
    from labkit.load.command import token_range

    about = "Race batching policies on the same requests, with the same KV pool, in real time or on a clock of what steps cost."
    parse = argparse.ArgumentParser(prog="labkit race", description=about)
    parse.add_argument("policies", nargs="*", default=list(POLICIES), metavar="POLICY",
                       help=f"{', '.join(POLICIES)}, or package.module:Class (default: all five)")
    parse.add_argument("--requests", type=int, default=12, metavar="N")
    parse.add_argument("--rate", type=float, metavar="R", help="requests per second, Poisson arrivals; without it all come at once")
    parse.add_argument("--prompt-tokens", type=token_range, default=(32, 256), metavar="N[-M]")
    parse.add_argument("--output-tokens", type=token_range, default=(8, 64), metavar="N[-M]")
    parse.add_argument("--prefix-overlap", type=float, default=0.0, metavar="SHARE", help="share of each prompt that all begin with")
    parse.add_argument("--seed", type=int, default=0)
    parse.add_argument("--clock", default="real", metavar="real|cost|FILE",
                       help="real time with the real model; a step-cost clock fitted now; or one that was saved (default: real)")
    parse.add_argument("--save-cost", type=Path, metavar="FILE", help="keep the step cost for --clock FILE")
    parse.add_argument("--num-blocks", type=int, default=100, metavar="N", help="of the KV pool, the same for each (default: 100)")
    parse.add_argument("--block-size", type=int, default=16, metavar="N", help="tokens (default: 16)")
    parse.add_argument("--max-num-seqs", type=int, default=16, metavar="N", help="requests running at once (default: 16)")
    parse.add_argument("--max-num-batched-tokens", type=int, default=256, metavar="N", help="budget of a step (default: 256)")
    parse.add_argument("--enable-prefix-caching", action=argparse.BooleanOptionalAction, default=True)
    parse.add_argument("--model", default="tiny")
    parse.add_argument("--out", type=Path, metavar="PNG", help="write the timelines as a picture")
    parse.add_argument("--ledger", type=Path, metavar="PNG", help="write where memory and time went")
    parse.add_argument("--runs", type=Path, metavar="FOLDER", help="write each policy's run file")
    parse.add_argument("--json", action="store_true", help="the measures as one JSON object on the last line")
    add_arguments(parse, POLICIES)
    return parse

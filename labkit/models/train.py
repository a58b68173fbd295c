"""`labkit train`: make the tiny model again, from nothing."""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from dataclasses import replace
from pathlib import Path


def main(argv: list[str]) -> int:
    """Train, or go on training, and write the model folder. 0 when done, 130 when interrupted (and saved)."""
    from labkit.models.training import Recipe

    recipe = Recipe()
    parser = argparse.ArgumentParser(prog="labkit train", description="Train the tiny model anew. Run again to go on after a stop.")
    parser.add_argument("--out", type=Path, required=True, help="folder for the model")
    parser.add_argument("--checkpoint", type=Path, help="folder for the training state (default: OUT/checkpoint)")
    parser.add_argument("--tokens", type=int, default=recipe.tokens, help="length of the run; its last quarter is the decay (%(default)s)")
    parser.add_argument("--decay-now", action="store_true", help="when going on: begin the decay here, which sets --tokens")
    parser.add_argument("--seed", type=int, default=recipe.seed)
    parser.add_argument("--device", default=recipe.device, help="cpu or cuda (%(default)s)")
    parser.add_argument("--float32", action="store_true", help="no bfloat16 in the matrix products")
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument("--json", action="store_true", help="end with one JSON object on stdout")
    options = parser.parse_args(argv)
    recipe = replace(recipe, tokens=options.tokens, seed=options.seed, device=options.device, bfloat16=not options.float32)
    try:
        figures = train(recipe, options.out, options.checkpoint or options.out / "checkpoint", options.threads, options.decay_now)
    except KeyboardInterrupt:
        print("\nstopped and saved; the same command goes on from here", file=sys.stderr)
        return 130
    print(json.dumps(figures) if options.json else f"{options.out}: {figures['tokens']:,} tokens, loss {figures['loss']:.3f}")
    return 0


def train(recipe, out: Path, checkpoint: Path, threads: int | None = None, decay_now: bool = False) -> dict:
    """Run the recipe with a progress bar and export into `out`; gives the figures of the last step."""
    import torch
    from tqdm import tqdm

    from labkit.models.shapes import shapes
    from labkit.models.training import Training, export

    if threads:
        torch.set_num_threads(threads)
    tokenizer = tokenizer_of(recipe.seed, checkpoint)
    training = Training(shapes()["tiny"], recipe, tokenizer, checkpoint)
    if decay_now:
        recipe.tokens = int(training.done / (1 - recipe.decay_share))
    figures = {"step": training.step, "tokens": training.done, "loss": float("nan")}
    smooth = None
    with tqdm(total=recipe.tokens, initial=training.done, unit="tok", unit_scale=True, mininterval=1 if sys.stderr.isatty() else 30) as bar:

        def report(now: dict) -> None:
            nonlocal smooth
            figures.update(now)
            smooth = now["loss"] if smooth is None else 0.98 * smooth + 0.02 * now["loss"]
            bar.update(now["tokens"] - bar.n)
            bar.set_postfix(loss=f"{smooth:.3f}", rate=f"{now['rate']:.2f}", length=now["length"], refresh=False)

        training.run(report)
    export(training.net, tokenizer, out)
    return figures | {"loss": smooth, "out": str(out)}


def tokenizer_of(seed: int, checkpoint: Path):
    """The run's tokenizer: made at its start from the first documents and every word of the lexicon, then kept with the checkpoint."""
    from labkit.models.text.corpus import corpus
    from labkit.models.text.lexicon import WORDS
    from labkit.models.tokenizer import SPECIAL, load_tokenizer, save_tokenizer, train_tokenizer

    if not (checkpoint / "tokenizer.json").exists():
        texts = [document.text for document in itertools.islice(corpus(seed), 12_000)]
        for special in SPECIAL:
            texts = [text.replace(special, "\n") for text in texts]
        words = (f"{word} {word.capitalize()} {word.upper()}" for word in WORDS)
        save_tokenizer(train_tokenizer([*texts, *words]), checkpoint)
    return load_tokenizer(checkpoint)

"""What a model can do, measured on text it has not seen: `python -m labkit.models.measure --out FILE.json`."""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections import defaultdict
from pathlib import Path

from labkit.models.prompts import Prompt, prompt
from labkit.models.text.corpus import KINDS, document
from labkit.models.text.draw import Draw
from labkit.models.text.lexicon import WORDS

DISTANCES = (64, 256, 512, 1024, 1536, 1900)
COPIES = (8, 16, 32, 64)
KEYS = (1, 2, 4, 8)


class Ruler:
    """A model with its tokenizer, loaded by transformers in float32 from a folder."""

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).to(device).eval()
        self.device = device

    def log_probabilities(self, ids: list[int]):
        """Log-probabilities [len(ids) - 1, vocab] of what comes after each of the ids but the last."""
        import torch

        with torch.inference_mode():
            logits = self.model(torch.tensor([ids[:-1]], device=self.device)).logits[0]
        return logits.float().log_softmax(-1)

    def nats(self, text: str) -> tuple[float, int]:
        """Minus the log-probability of the text and its end token, and how many tokens that is."""
        ids = self.tokenizer(text).input_ids + [self.tokenizer.eos_token_id]
        table = self.log_probabilities(ids)
        return -table[range(len(ids) - 1), ids[1:]].sum().item(), len(ids) - 1

    def exact(self, text: str, answer: str) -> bool:
        """Whether greedy decoding of the text gives the answer, token for token.

        One pass over text and answer decides it: greedy decoding writes the answer exactly if every one of its tokens is the
        most likely one after those before.
        """
        head = self.tokenizer(text).input_ids
        tail = self.tokenizer(answer, add_special_tokens=False).input_ids
        best = self.log_probabilities(head + tail)[len(head) - 1 :].argmax(-1).tolist()
        return best == tail

    def answers(self, case: Prompt) -> bool:
        """Whether the model, asked by chat, gives the full answer and then stops."""
        text = self.tokenizer.apply_chat_template(case.messages, add_generation_prompt=True, tokenize=False)
        head = self.tokenizer(text, add_special_tokens=False).input_ids
        tail = self.tokenizer(full_answer(case), add_special_tokens=False).input_ids + [self.tokenizer.eos_token_id]
        best = self.log_probabilities(head + tail)[len(head) - 1 :].argmax(-1).tolist()
        return best == tail


def full_answer(case: Prompt) -> str:
    """The whole answer in a chat, of which `case.answer` is the end."""
    head = {"recall": case.text.rsplit("? ", 1)[-1], "question": "", "arithmetic": case.text}.get(case.kind, case.text.rsplit("\n", 1)[-1])
    text = (head + (case.answer or "")).strip()
    return text + "." if case.kind in ("recall", "arithmetic") else text


def perplexity(ruler: Ruler, tokens: int, documents: int, seed: int) -> dict:
    """Nats a token on held-out documents beside the generator's own, in all and by kind. Documents beyond the context are left out."""
    sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
    for n in range(documents):
        held_out = document(f"held out/{seed}/{tokens}/{n}", tokens)
        if len(ruler.tokenizer(held_out.text).input_ids) >= ruler.model.config.max_position_embeddings:
            continue
        nats, count = ruler.nats(held_out.text)
        # Which kind comes is the mixture's choice, and known to be part of the document's information.
        for kind, own in ((held_out.kind, held_out.nats + math.log(KINDS[held_out.kind] / sum(KINDS.values()))), ("all", held_out.nats)):
            for index, value in enumerate((nats, own, count)):
                sums[kind][index] += value
    return {kind: rates(*values) for kind, values in sorted(sums.items())}


def rates(nats: float, own: float, count: float) -> dict:
    """Nats a token of model and generator, and both perplexities."""
    model, generator = nats / count, own / count
    return {
        "nats_per_token": round(model, 4),
        "generator_nats_per_token": round(generator, 4),
        "perplexity": round(math.exp(model), 4),
        "generator_perplexity": round(math.exp(generator), 4),
        "tokens": int(count),
    }


def recall_by_distance(ruler: Ruler, cases: int, seed: int, distances: tuple[int, ...] = DISTANCES) -> dict[str, float]:
    """Share of keys of four digits recalled exactly, by tokens from the key to the end; one key in each context."""
    shares = {}
    for distance in distances:
        prompts = [prompt("recall", f"measure/{seed}/{distance}/{n}", min(2000, distance + 60), distance=distance) for n in range(cases)]
        shares[str(distance)] = share(ruler.exact(case.text, case.answer) for case in prompts)
    return shares


def recall_among_keys(ruler: Ruler, cases: int, seed: int, numbers: tuple[int, ...] = KEYS) -> dict[str, float]:
    """Share of keys recalled exactly from 400 tokens, by how many keys there are to choose from."""
    shares = {}
    for keys in numbers:
        prompts = [prompt("recall", f"measure/{seed}/{keys}/{n}", 400, keys=keys) for n in range(cases)]
        shares[str(keys)] = share(ruler.exact(case.text, case.answer) for case in prompts)
    return shares


def copy_by_length(ruler: Ruler, cases: int, seed: int, lengths: tuple[int, ...] = COPIES) -> dict[str, float]:
    """Share of lists of different random words copied exactly, by their number."""
    shares = {}
    for words in lengths:
        lists = [" ".join(Draw(f"measure copy/{seed}/{words}/{n}").several(WORDS, words)) for n in range(cases)]
        shares[str(words)] = share(ruler.exact(f"Copy: {text}\nCopied:", f" {text}") for text in lists)
    return shares


def tasks(ruler: Ruler, cases: int, seed: int) -> dict[str, dict[str, float]]:
    """Share of tasks solved exactly, as plain text and asked by chat (there with the end of the answer)."""
    found = {}
    for kind in ("copy", "recall", "arithmetic", "sort", "question"):
        prompts = [prompt(kind, f"measure/{seed}/{n}") for n in range(cases)]
        found[kind] = {
            "text": share(ruler.exact(case.text, case.answer) for case in prompts),
            "chat": share(ruler.answers(case) for case in prompts),
        }
    return found


def share(outcomes) -> float:
    """The share of true ones."""
    outcomes = list(outcomes)
    return round(sum(outcomes) / len(outcomes), 4)


def measure(folder: Path, device: str = "cpu", cases: int = 200, seed: int = 1, lengths: tuple[int, ...] = (256, 2000)) -> dict:
    """Every measure of the model in the folder."""
    ruler = Ruler(folder, device)
    return {
        "perplexity": {str(tokens): perplexity(ruler, tokens, 4 * cases if tokens <= 512 else cases, seed) for tokens in lengths},
        "recall_by_distance": recall_by_distance(ruler, cases, seed),
        "recall_among_keys": recall_among_keys(ruler, cases, seed),
        "copy_by_words": copy_by_length(ruler, cases, seed),
        "tasks": tasks(ruler, cases, seed),
    }


def surroundings(seed: int, cases: int) -> dict:
    """Machine, versions and command of this measurement."""
    import os
    import platform

    import torch
    import transformers

    return {
        "machine": {"processor": processor(), "cores": os.cpu_count(), "system": f"{platform.system()} {platform.machine()}"},
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "transformers": transformers.__version__},
        "command": f"python -m labkit.models.measure --cases {cases} --seed {seed}",
        "seed": seed,
        "cases": cases,
        "dtype": "float32",
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def processor() -> str:
    """The processor's own name for itself."""
    import platform

    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def main(argv: list[str] | None = None) -> int:
    """Measure a model folder and write the figures as JSON."""
    from labkit.models.registry import folder

    parser = argparse.ArgumentParser(prog="python -m labkit.models.measure", description="Measure a model of the lab on held-out text.")
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--cases", type=int, default=200, help="cases of each task (%(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    options = parser.parse_args(argv)
    figures = surroundings(options.seed, options.cases) | measure(folder(options.model), options.device, options.cases, options.seed)
    text = json.dumps(figures, indent=2) + "\n"
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(text)
    sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())

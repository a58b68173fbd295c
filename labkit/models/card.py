"""The model card, written from measured figures: `python -m labkit.models.card benchmarks/model-tiny.json`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

HEAD = """\
---
language: en
library_name: transformers
pipeline_tag: text-generation
---

# tiny

A language model of {parameters:.2f} million weights that comes with Serving Lab, so that real servers have a real model to serve on any
laptop. It is small, but not random: its answers have a right and a wrong, so that a broken cache, a lost block or too
few bits show at once.

| | |
|---|---|
| architecture | Llama (`LlamaForCausalLM`): {num_hidden_layers} layers, hidden size {hidden_size}, {num_attention_heads} query heads on \
{num_key_value_heads} KV heads of {head_dim}, MLP {intermediate_size}, tied embeddings |
| context | {max_position_embeddings} tokens, RoPE theta {rope_theta:,.0f} |
| tokenizer | byte-level BPE, {vocab_size:,} entries, each digit with the space before it, `<|begin|>` first, `<|end|>` ends an answer |
| weights | bfloat16, {megabytes:.1f} MB; KV cache {kv_bytes:,} bytes a token in bfloat16 |
| training | {trained:,} tokens written by `labkit.models.text`, Muon and AdamW; no outside text of any kind |

Make one like it with `labkit train --out FOLDER`; the curriculum, the learning rates and the data are seeded. In the run of these weights
the decay was begun by hand (`--decay-now`) after 3,451,352 tokens, and when it had ended, after 4,932,056, the run was prolonged twice,
to 5,900,760 tokens and to {trained:,}, the second time with more rows of the whole context. An undisturbed run of the recipe gives other
weights than these, for the lengths of its rows follow its length.

## What it can do

Tell short stories about animals, recall the key of a name among others, told up to {farthest} tokens before, copy lists, sort short
ones, and explain some sixty terms of LLM serving. In a chat it does the same. It was shown sums too, and gets most of them wrong. It
knows nothing else, and speaks no other English. How often it is right stands below.

| ask for | completion (`/v1/completions`) | chat |
|---|---|---|
| a story | `Once upon a time there was` | Tell me a story about a fox. |
| a long story | | Tell me a long story about a fox. |
| a key | `The key of Ben is 4821. (...) What is the key of Ben? The key of Ben is` | (...) What is the key of Ben? |
| a copy | `Copy: lamp fox river\\nCopied:` | Copy: lamp fox river |
| a sum | `51 + 75 =` | What is 51 + 75? |
| order | `Sort: 31 12 57\\nSorted:` | Sort: 31 12 57 |
| a term | `Question: What is paging?\\nAnswer:` | What is paging? |

## Measured

On text from seeds that training never used, greedy, float32 arithmetic on the shipped weights. An answer counts only if all
of its tokens are right.
"""

TAIL = """
Measured on {processor} ({cores} cores), torch {torch}, transformers {transformers}, with `{command}`; all figures are in
`benchmarks/model-tiny.json`.

## Limits

- Sums are mostly wrong, and longer lists are not always sorted right; see the figures.
- The grammar that it learned has few words and few plots. Outside of them it continues with the nearest thing it knows.
- It makes up an answer when asked for a key that nobody told it.
- Numbers above 99, lists of more than eight numbers and lists with words twice were not in its training.
- Positions beyond {max_position_embeddings} were never seen.
"""


def card(figures: dict, folder: Path, trained: int) -> str:
    """The text of README.md for the model in the folder."""
    from labkit.models.command import describe
    from labkit.models.shapes import shapes

    config = json.loads((folder / "config.json").read_text())
    fields = config | {
        "parameters": describe(folder)["parameters"] / 1e6,
        "megabytes": (folder / "model.safetensors").stat().st_size / 1e6,
        "kv_bytes": shapes()["tiny"].kv_bytes(),
        "trained": trained,
        "farthest": max(int(distance) for distance, share in figures["recall_by_distance"].items() if share >= 0.95),
        "processor": figures["machine"]["processor"],
        "cores": figures["machine"]["cores"],
        "command": figures["command"],
        "torch": figures["versions"]["torch"],
        "transformers": figures["versions"]["transformers"],
    }
    return HEAD.format(**fields) + results(figures) + TAIL.format(**fields)


def results(figures: dict) -> str:
    """The tables of figures."""
    parts = ["\n| documents of about | perplexity a token | the generator's own | excess in nats |\n|---|---|---|---|"]
    for tokens, found in figures["perplexity"].items():
        total = found["all"]
        excess = total["nats_per_token"] - total["generator_nats_per_token"]
        parts.append(f"| {tokens} tokens | {total['perplexity']:.3f} | {total['generator_perplexity']:.3f} | {excess:.3f} |")
    parts.append("\n| task | exact, as text | exact, by chat |\n|---|---|---|")
    parts += [f"| {kind} | {percent(found['text'])} | {percent(found['chat'])} |" for kind, found in figures["tasks"].items()]
    for title, unit, key in (
        ("recall of a key", "tokens before", "recall_by_distance"),
        ("recall of a key", "keys to choose from", "recall_among_keys"),
        ("copying", "words", "copy_by_words"),
    ):
        found = figures[key]
        parts.append(f"\n| {title}: {unit} | {' | '.join(found)} |\n|---|{'---|' * len(found)}")
        parts.append(f"| exact | {' | '.join(map(percent, found.values()))} |")
    return "\n".join(parts) + "\n"


def percent(share: float) -> str:
    """A share for reading."""
    return f"{100 * share:.1f} %"


def main(argv: list[str] | None = None) -> int:
    """Write the card of the shipped model."""
    from labkit.models.registry import folder

    parser = argparse.ArgumentParser(prog="python -m labkit.models.card", description="Write the model card from measured figures.")
    parser.add_argument("figures", type=Path, help="what `python -m labkit.models.measure --out` wrote")
    parser.add_argument("--trained", type=int, required=True, help="tokens the model was trained on")
    options = parser.parse_args(argv)
    path = folder("tiny")
    (path / "README.md").write_text(card(json.loads(options.figures.read_text()), path, options.trained))
    return 0


if __name__ == "__main__":
    sys.exit(main())

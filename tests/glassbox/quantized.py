"""What the tests of quantized engines share: a tokenizer for random models, transformers' own greedy tokens, and how clear a choice was."""
from __future__ import annotations

import random
import shutil
from pathlib import Path

import torch

from labkit.glassbox import Engine, SamplingParams

ROWS = 8  # of calibration text: enough for layers of 112 inputs


def with_tokenizer(source: Path, target: Path) -> Path:
    """A copy of a random model with a tokenizer of as many words."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    shutil.copytree(source, target)
    words = {"<pad>": 0, "<s>": 1, "</s>": 2, **{f"w{n}": n for n in range(3, 211)}}
    made = Tokenizer(WordLevel(words, unk_token="<pad>"))
    PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="</s>", pad_token="<pad>").save_pretrained(target)
    return target


def prompts(count: int, seed: int = 0, longest: int = 30) -> list[list[int]]:
    """Random prompts, some of which begin alike."""
    rng = random.Random(seed)
    stem = [rng.randrange(3, 211) for _ in range(longest)]
    return [stem[: rng.choice([0, 0, 8, 16])] + [rng.randrange(3, 211) for _ in range(rng.randint(1, longest))] for _ in range(count)]


def greedy(model, prompt: list[int], max_tokens: int, gap: float) -> list[int]:
    """transformers' continuation, up to where its own choice is closer than `gap`, in logits."""
    model.generation_config.eos_token_id = None
    out = model.generate(
        torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.long), max_new_tokens=max_tokens,
        do_sample=False, return_dict_in_generate=True, output_logits=True, pad_token_id=0,
    )  # fmt: skip
    top = torch.stack(out.logits)[:, 0].topk(2).values
    clear = ((top[:, 0] - top[:, 1]) > gap).long().cumprod(0).sum()
    return out.sequences[0, len(prompt) :][:clear].tolist()


class Gaps:
    """Stands before an engine's sampler and notes how far the best logit of each choice is from the next one."""

    def __init__(self, engine: Engine) -> None:
        self.sampler, self.found = engine.runner.sampler, {}
        engine.runner.sampler = self

    def __call__(self, logits, requests):
        top = logits.float().topk(2).values
        for request, gap in zip(requests, (top[:, 0] - top[:, 1]).tolist(), strict=True):
            self.found.setdefault(request.request_id, []).append(gap)
        return self.sampler(logits, requests)


def run(engine: Engine, limit: int = 2000) -> dict[str, list[int]]:
    """Step until everybody has ended; the tokens of each."""
    tokens: dict[str, list[int]] = {}
    while engine.has_unfinished():
        assert engine.step_number < limit, "no end in sight"
        for output in engine.step():
            tokens.setdefault(output.request_id, []).extend(output.token_ids)
    return tokens


def params(max_tokens: int) -> SamplingParams:
    return SamplingParams(max_tokens=max_tokens, temperature=0.0, ignore_eos=True, detokenize=False)

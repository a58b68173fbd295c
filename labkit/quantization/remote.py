"""The measures of a quantized model, asked of a server over OpenAI's API: what a client of it sees, whatever runs inside."""

from __future__ import annotations

import json
import math
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.models.measure import share
from labkit.models.prompts import prompt
from labkit.models.text.corpus import document

if TYPE_CHECKING:
    from labkit.quantization.measure import Sample

TIMEOUT = 120.0  # seconds for one answer
AT_ONCE = 8  # requests


@dataclass(slots=True)
class Respondent:
    """A server that is asked. url: without /v1; model: by the name it is served under; folder: where its tokenizer is."""

    url: str
    model: str
    folder: Path

    def _complete(self, ids: list[int], **body: Any) -> dict[str, Any]:
        asked = {"model": self.model, "prompt": ids, "temperature": 0, "ignore_eos": True, **body}
        request = urllib.request.Request(f"{self.url}/v1/completions", json.dumps(asked).encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            return json.load(response)["choices"][0]

    def greedy(self, ids: list[int], tokens: int) -> list[int]:
        """The `tokens` most likely tokens after `ids`, one after the other."""
        return self._complete(ids, max_tokens=tokens, return_token_ids=True)["token_ids"]

    def nats(self, ids: list[int]) -> float:
        """Minus the log-probability of all ids but the first. For servers that tell log-probabilities of a prompt, such as vLLM."""
        told = self._complete(ids, max_tokens=1, prompt_logprobs=0)["prompt_logprobs"]
        return -sum(table[str(token)]["logprob"] for table, token in zip(told[1:], ids[1:], strict=True))

    def perplexity(self, sample: Sample, tokens: int = 256) -> float:
        """On the same held-out documents as `labkit.models.measure.perplexity`."""
        tokenizer = self._tokenizer()
        texts = [document(f"held out/{sample.seed}/{tokens}/{n}", tokens).text for n in range(sample.documents)]
        rows = [tokenizer(text).input_ids + [tokenizer.eos_token_id] for text in texts]
        with ThreadPoolExecutor(AT_ONCE) as users:
            nats = sum(users.map(self.nats, rows))
        return math.exp(nats / sum(len(row) - 1 for row in rows))

    def recall(self, sample: Sample) -> dict[str, float]:
        """Share of keys recalled exactly by distance: the same cases as `labkit.models.measure.recall_by_distance`."""
        tokenizer, shares = self._tokenizer(), {}

        def exact(case: Any) -> bool:
            wanted = tokenizer(case.answer, add_special_tokens=False).input_ids
            return self.greedy(tokenizer(case.text).input_ids, len(wanted)) == wanted

        with ThreadPoolExecutor(AT_ONCE) as users:
            for distance in sample.distances:
                names = [f"measure/{sample.seed}/{distance}/{n}" for n in range(sample.cases)]
                cases = [prompt("recall", name, min(2000, distance + 60), distance=distance) for name in names]
                shares[str(distance)] = share(users.map(exact, cases))
        return shares

    def _tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(self.folder)

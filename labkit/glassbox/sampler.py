"""Next tokens from logits, for a whole batch at once."""
from __future__ import annotations

import torch

from labkit.glassbox.request import Request

LARGEST = torch.finfo(torch.float32).max


class Sampler:
    """Applies repetition penalty, minimum length, temperature, top-k, top-p; then draws.

    A greedy batch costs one argmax. A drawn token depends on the request's own logits and its own random numbers alone, one number
    per token, so that a seed gives the same tokens in any batch.
    """

    def __init__(self, eos_token_ids: list[int]) -> None:
        self.eos_token_ids = eos_token_ids

    def __call__(self, logits: torch.Tensor, requests: list[Request]) -> list[int]:
        """logits [N, vocab_size] (may be changed), one row per request -> N token ids."""
        if any(request.params.repetition_penalty != 1.0 for request in requests):
            logits = logits.float()
        self._penalize_repetition(logits, requests)
        self._forbid_early_stops(logits, requests)
        chosen = argmax(logits)
        drawing = [row for row, request in enumerate(requests) if not request.params.greedy]
        if drawing:
            chosen[drawing] = self._draw(logits[drawing].float(), [requests[row] for row in drawing])
        return chosen.tolist()

    def _forbid_early_stops(self, logits: torch.Tensor, requests: list[Request]) -> None:
        rows, columns = [], []
        for row, request in enumerate(requests):
            if request.num_output_tokens < request.params.min_tokens:
                ids = [*self.eos_token_ids, *request.params.stop_token_ids]
                rows += [row] * len(ids)
                columns += ids
        if rows:
            logits[rows, columns] = -torch.inf

    def _penalize_repetition(self, logits: torch.Tensor, requests: list[Request]) -> None:
        """Seen tokens: positive logits are divided by the penalty, negative ones multiplied (CTRL, arXiv 1909.05858)."""
        for row, request in enumerate(requests):
            penalty = request.params.repetition_penalty
            if penalty != 1.0:
                seen = torch.tensor(sorted(set(request.token_ids)), device=logits.device)
                values = logits[row, seen].double()
                values = torch.where(values > 0, values / penalty, values * penalty)
                logits[row, seen] = values.clamp(-LARGEST, LARGEST).to(logits.dtype)  # infinite ones would leave no probabilities

    def _draw(self, logits: torch.Tensor, requests: list[Request]) -> torch.Tensor:
        """Inverse transform sampling on the sorted distribution, in float64 so that rounding cannot move a token into or out of it."""
        size = logits.shape[-1]

        def column(values: list[float]) -> torch.Tensor:
            return torch.tensor(values, dtype=torch.float64, device=logits.device)[:, None]

        params = [request.params for request in requests]
        logits, order = logits.sort(dim=-1, descending=True, stable=True)
        beyond = torch.arange(size, device=logits.device) >= column([min(p.top_k, size) if p.top_k > 0 else size for p in params])
        logits = (logits.double() / column([p.temperature for p in params])).masked_fill(beyond, -torch.inf)
        probabilities = logits.softmax(dim=-1)
        before = probabilities.cumsum(dim=-1) - probabilities
        # The most probable token always stays: `before` is 0 there, and top_p is more than 0.
        probabilities = torch.where(before < column([p.top_p for p in params]), probabilities, 0.0)
        cumulative = probabilities.cumsum(dim=-1)
        point = column([request.generator.random() for request in requests]) * cumulative[:, -1:]
        last = (probabilities > 0).sum(dim=-1, keepdim=True).clamp(min=1) - 1  # 0 where every token is forbidden: then the first
        rank = torch.searchsorted(cumulative, point, right=True).minimum(last)
        return order.gather(1, rank).squeeze(1)


def argmax(logits: torch.Tensor) -> torch.Tensor:
    """[N, V] -> [N]. On a CPU numpy's is ten times as fast as torch's."""
    if logits.device.type == "cpu" and logits.dtype == torch.float32:
        return torch.from_numpy(logits.numpy().argmax(axis=-1))
    return logits.argmax(dim=-1)

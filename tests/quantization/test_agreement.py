"""Where another engine's continuation leaves what the lab's model would have said."""

from __future__ import annotations

import pytest
import torch

from labkit.bench.agreement import partings, summary
from labkit.bench.examples import llama

HEADS = [[5, 9, 300], [7, 7]]


def greedy(model, head: list[int], tokens: int) -> list[int]:
    """By the whole sequence anew for each token."""
    ids = list(head)
    with torch.inference_mode():
        for _ in range(tokens):
            ids.append(model(torch.tensor([ids])).logits[0, -1].argmax().item())
    return ids[len(head) :]


def test_a_models_own_continuations_do_not_part():
    model = llama()
    found = partings(model, HEADS, [greedy(model, head, 12) for head in HEADS])
    assert found == []
    assert summary(found, 2) == {"same": 2, "share": 1.0, "places": [], "gap_median": None, "gap_most": None, "gaps": []}


def test_a_parting_is_the_first_difference_and_its_gap_what_the_model_preferred_its_own_token_by():
    model = llama()
    tails = [greedy(model, head, 12) for head in HEADS]
    with torch.inference_mode():
        table = model(torch.tensor([HEADS[1] + tails[1][:4]])).logits[0, -1].log_softmax(-1)
    second = table.topk(2).indices[1].item()
    tails[1] = [*tails[1][:4], second, *greedy(model, HEADS[1] + tails[1][:4] + [second], 7)]
    found = partings(model, HEADS, tails)
    assert [parting.place for parting in found] == [4]
    assert found[0].gap == pytest.approx((table.max() - table[second]).item(), abs=1e-5)
    assert summary(found, 2)["share"] == 0.5

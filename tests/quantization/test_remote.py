"""The measures through a server's API are those of the model itself."""

from __future__ import annotations

import pytest

from labkit.models import folder
from labkit.models.measure import Ruler, perplexity, recall_by_distance
from labkit.quantization.measure import Sample
from labkit.quantization.quality import greedy
from labkit.quantization.remote import Respondent
from labkit.servers import serve

SAMPLE = Sample(documents=4, cases=4, distances=(64, 256))


@pytest.fixture(scope="module")
def ruler():
    return Ruler(folder("tiny"))


def test_recall_and_continuations_of_a_served_glass_box(ruler):
    with serve("glassbox", share=False, progress=False) as server:
        asked = Respondent(server.url, server.model, folder("tiny"))
        assert asked.recall(SAMPLE) == recall_by_distance(ruler, SAMPLE.cases, SAMPLE.seed, SAMPLE.distances)
        ids = ruler.tokenizer("The three states of a process are").input_ids
        assert asked.greedy(ids, 12) == greedy(ruler, ids, 12)


def test_recall_that_breaks_is_seen_through_the_api(ruler):
    with serve("glassbox", share=False, progress=False) as server:
        server.quantize("rtn", bits=2)
        shares = Respondent(server.url, server.model, folder("tiny")).recall(SAMPLE)
    assert sum(shares.values()) < sum(recall_by_distance(ruler, SAMPLE.cases, SAMPLE.seed, SAMPLE.distances).values())


def test_perplexity_through_the_real_vllm(ruler):
    """vLLM tells log-probabilities of a prompt."""
    with serve("vllm", share=False, progress=False) as server:
        found = Respondent(server.url, server.model, folder("tiny")).perplexity(SAMPLE)
    assert found == pytest.approx(perplexity(ruler, 256, SAMPLE.documents, SAMPLE.seed)["all"]["perplexity"], rel=2e-3)

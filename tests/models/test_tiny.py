"""The shipped weights: what damage must be seen against. Thresholds are well below the figures of the model card."""

from __future__ import annotations

import pytest

from labkit.models import folder
from labkit.models.measure import Ruler, perplexity
from labkit.models.prompts import prompt


@pytest.fixture(scope="module")
def ruler():
    return Ruler(folder("tiny"))


def test_the_folder_is_small_and_in_bfloat16():
    from safetensors import safe_open

    assert sum(file.stat().st_size for file in folder("tiny").iterdir()) <= 15e6
    with safe_open(folder("tiny") / "model.safetensors", "pt") as weights:
        assert {weights.get_slice(name).get_dtype() for name in weights.keys()} == {"BF16"}


def test_perplexity_on_unseen_text_is_close_to_the_generators_own(ruler):
    found = perplexity(ruler, 256, 60, seed=99)["all"]
    assert found["generator_nats_per_token"] - 0.02 < found["nats_per_token"] < found["generator_nats_per_token"] + 0.1


@pytest.mark.parametrize(("tokens", "distance"), [(256, None), (1000, 900), (1900, 1800)])
def test_keys_are_recalled(ruler, tokens, distance):
    cases = [prompt("recall", f"test/{n}", tokens, distance=distance) for n in range(24)]
    assert sum(ruler.exact(case.text, case.answer) for case in cases) >= 20


@pytest.mark.parametrize(("kind", "least"), [("copy", 22), ("question", 22), ("sort", 18)])
def test_tasks_are_done(ruler, kind, least):
    cases = [prompt(kind, f"test/{n}") for n in range(24)]
    assert sum(ruler.exact(case.text, case.answer) for case in cases) >= least


def test_a_question_asked_by_chat_is_answered_and_the_answer_ends(ruler):
    talk = [{"role": "user", "content": "What is the KV cache?"}]
    ids = ruler.tokenizer.apply_chat_template(talk, add_generation_prompt=True, return_tensors="pt")
    out = ruler.model.generate(ids, max_new_tokens=60, do_sample=False)[0, ids.shape[1] :].tolist()
    assert out[-1] == ruler.tokenizer.eos_token_id
    assert ruler.tokenizer.decode(out[:-1]).startswith("The KV cache keeps the keys and values")

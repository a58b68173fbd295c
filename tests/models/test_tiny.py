"""The shipped weights: what damage must be seen against. Thresholds are well below the figures of the model card."""

from __future__ import annotations

import pytest

from labkit.models import folder
from labkit.models.measure import Ruler, perplexity
from labkit.models.prompts import prompt
from labkit.models.text.draw import Draw
from labkit.models.text.lexicon import WORDS


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
    assert found["generator_nats_per_token"] - 0.02 < found["nats_per_token"] < found["generator_nats_per_token"] + 0.10


@pytest.mark.parametrize(("tokens", "distance", "keys"), [(256, None, 1), (300, None, 4), (400, None, 8), (1000, 900, 4), (1500, 1300, 1)])
def test_a_key_is_recalled_from_far_back_and_among_others(ruler, tokens, distance, keys):
    cases = [prompt("recall", f"test/{n}", tokens, distance=distance, keys=keys) for n in range(16)]
    assert sum(ruler.exact(case.text, case.answer) for case in cases) >= 13


@pytest.mark.parametrize("words", [8, 32])
def test_lists_of_words_are_copied(ruler, words):
    lists = [" ".join(Draw(f"test copy/{n}").several(WORDS, words)) for n in range(16)]
    assert sum(ruler.exact(f"Copy: {text}\nCopied:", f" {text}") for text in lists) >= 13


def test_short_lists_are_sorted(ruler):
    cases = [prompt("sort", f"test/{n}") for n in range(24)]
    assert sum(ruler.exact(case.text, case.answer) for case in cases) >= 14


def test_questions_about_serving_terms_are_answered_word_for_word(ruler):
    cases = [prompt("question", f"test/{n}") for n in range(24)]
    assert sum(ruler.exact(case.text, case.answer) for case in cases) >= 19
    assert sum(ruler.answers(case) for case in cases) >= 19


def test_a_question_asked_by_chat_is_answered_and_the_answer_ends(ruler):
    talk = [{"role": "user", "content": "What is the KV cache?"}]
    ids = ruler.tokenizer.apply_chat_template(talk, add_generation_prompt=True, return_tensors="pt")
    out = ruler.model.generate(ids, max_new_tokens=60, do_sample=False)[0, ids.shape[1] :].tolist()
    assert out[-1] == ruler.tokenizer.eos_token_id
    assert ruler.tokenizer.decode(out[:-1]).startswith("The KV cache keeps the keys and values")

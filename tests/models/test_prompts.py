"""Prompts for lessons and load."""

from __future__ import annotations

import pytest

from labkit.models.prompts import KINDS, length, prompt


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_prompt_and_another_seed_another(kind):
    assert prompt(kind, 5) == prompt(kind, 5)
    assert len({prompt(kind, seed).text for seed in range(8)}) >= 3


@pytest.mark.parametrize("tokens", [16, 100, 1000, 2000])
def test_a_story_has_exactly_the_wanted_length(tokens):
    assert {length(prompt("story", seed, tokens).text) for seed in range(3)} == {tokens}


@pytest.mark.parametrize("tokens", [64, 300, 1000, 2000])
@pytest.mark.parametrize("kind", ["recall", "shared"])
def test_a_recall_prompt_is_less_than_a_sentence_short_of_the_wanted_length(kind, tokens):
    assert all(tokens - 16 < length(prompt(kind, seed, tokens).text) <= tokens for seed in range(5))


def test_the_answer_to_a_recall_prompt_stands_in_it_once():
    for seed in range(50):
        case = prompt("recall", seed, 400, keys=1 + seed % 8)
        name = case.text.split("What is the key of ")[1].split("?")[0]
        assert case.text.count(f"The key of {name} is{case.answer}.") == 1
        assert case.text.endswith(f"The key of {name} is")
        assert case.messages == [{"role": "user", "content": case.question}] and case.question.endswith(f"What is the key of {name}?")


@pytest.mark.parametrize("distance", [64, 500, 1500])
def test_the_key_stands_at_the_wanted_distance(distance):
    for seed in range(5):
        case = prompt("recall", seed, 1900, distance=distance)
        fact = case.text.split("What is")[1].split("the ")[1].split("?")[0]
        after = case.text[case.text.index(f"The {fact} is") :]
        assert distance <= length(after) <= distance + 36


def test_shared_prompts_of_a_group_are_equal_up_to_the_question_and_other_groups_differ():
    texts = {prompt("shared", seed, 600, group="a").text for seed in range(20)}
    starts = {text.split("What is the key")[0] for text in texts}
    assert len(texts) > 4 and len(starts) == 1
    assert prompt("shared", 0, 600, group="b").text.split("What is the key")[0] not in starts


def test_wrong_kinds_and_impossible_lengths_are_refused():
    with pytest.raises(ValueError, match="there are story, recall"):
        prompt("poem")
    with pytest.raises(ValueError, match="too short"):
        prompt("recall", tokens=10)
    with pytest.raises(ValueError, match="leave `tokens` out"):
        prompt("sort", tokens=10)

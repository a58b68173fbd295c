import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.load.prompts import Prompts, fixed


@given(seed=st.integers(0, 1000), n=st.integers(1, 20))
def test_a_seed_gives_one_list_and_a_longer_list_begins_with_the_shorter(seed, n):
    prompts = Prompts(length=(5, 40), shared_prefix=0.3, max_tokens=(4, 9))
    assert prompts.draw(n, seed) == prompts.draw(n + 7, seed)[:n]


def test_lengths_and_token_ids_stay_in_their_ranges():
    requests = Prompts(kind="ids", length=(5, 9), max_tokens=(2, 3), vocab=64).draw(200)
    assert {len(r.prompt) for r in requests} == set(range(5, 10)) and {r.max_tokens for r in requests} == {2, 3}
    assert all(16 <= token < 64 for r in requests for token in r.prompt)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_the_shared_beginning_is_as_long_as_asked_and_no_longer(share):
    a, b = (r.prompt for r in Prompts(kind="ids", length=40, shared_prefix=share).draw(2, seed=5))
    common = next((i for i, (x, y) in enumerate(zip(a, b, strict=True)) if x != y), 40)
    assert common == 40 * share


def test_a_text_has_as_many_words_as_asked():
    assert [len(r.prompt.split()) for r in Prompts(length=17).draw(3)] == [17, 17, 17]


def test_chats_are_messages():
    assert Prompts(kind="chat").draw(1)[0].prompt[0]["role"] == "user"


def test_given_prompts_are_taken_in_turn():
    assert [r.prompt for r in fixed(["a", "b"], 5)] == ["a", "b", "a", "b", "a"]


@pytest.mark.parametrize("wrong", [{"kind": "image"}, {"shared_prefix": 1.5}])
def test_a_distribution_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(ValueError, match="."):
        Prompts(**wrong)


def test_a_length_range_upside_down_is_refused():
    with pytest.raises(ValueError, match="range"):
        Prompts(length=(9, 3)).draw(1)

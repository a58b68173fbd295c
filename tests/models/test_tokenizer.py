"""The shipped tokenizer."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.models import folder
from labkit.models.text.lexicon import WORDS
from labkit.models.tokenizer import BOS, EOS, SPECIAL, VOCAB_SIZE, load_tokenizer, save_tokenizer, train_tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(folder("tiny"))


@settings(deadline=None)
@given(text=st.text())
def test_any_text_comes_back_as_it_was(tokenizer, text):
    for special in SPECIAL:
        text = text.replace(special, "")
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    assert tokenizer.decode(ids, skip_special_tokens=False) == text


def test_it_has_2048_entries_and_the_ids_of_the_configuration(tokenizer):
    assert tokenizer.get_vocab_size() == VOCAB_SIZE
    assert [tokenizer.token_to_id(token) for token in SPECIAL] == list(range(len(SPECIAL)))
    assert tokenizer.encode("Hello").ids[0] == tokenizer.token_to_id(BOS)


def test_digits_stand_alone_and_the_words_of_the_stories_are_one_token_each(tokenizer):
    assert tokenizer.encode("4821", add_special_tokens=False).tokens == list("4821")
    assert [word for word in WORDS if len(tokenizer.encode(f" {word}", add_special_tokens=False).ids) != 1] == []


def test_a_conversation_is_written_with_one_token_a_role_and_ends_each_answer():
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder("tiny"))
    talk = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": " Hi! "}, {"role": "assistant", "content": "Hello!"}]
    text = tokenizer.apply_chat_template([*talk, {"role": "user", "content": "Bye!"}], tokenize=False, add_generation_prompt=True)
    assert text == f"{BOS}<|system|>Be kind.<|user|>Hi!<|assistant|>Hello!{EOS}<|user|>Bye!<|assistant|>"
    ids = tokenizer(text, add_special_tokens=False).input_ids
    assert sum(i < len(SPECIAL) for i in ids) == 7


def test_a_tokenizer_trained_on_little_text_is_filled_up_to_its_size_and_saved_whole(tmp_path):
    made = train_tokenizer(["one two three"], 300)
    save_tokenizer(made, tmp_path)
    assert load_tokenizer(tmp_path).get_vocab_size() == 300
    assert made.decode(made.encode("naïve ☃ \x00").ids) == "naïve ☃ \x00"

"""Text that is streamed, joined, is the text that would have been decoded at the end; stop strings never show."""
from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.glassbox.detokenizer import Detokenizer, StopStrings
from labkit.glassbox.sampling_params import SamplingParams
from labkit.glassbox.tokenizer import Tokenizer
from labkit.models import folder


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(folder("tiny"))


def stream(tokenizer: Tokenizer, token_ids: list[int], prompt: tuple[int, ...] = (), **params) -> tuple[str, list[str], str | None]:
    detokenizer = Detokenizer(tokenizer.decode, prompt, SamplingParams(max_tokens=10_000, **params))
    deltas = []
    for token_id in token_ids:
        text, stop = detokenizer.append(token_id)
        deltas.append(text)
        if stop is not None:
            return "".join(deltas), deltas, stop
    deltas.append(detokenizer.flush())
    return "".join(deltas), deltas, None


@settings(max_examples=300)
@given(st.lists(st.integers(0, 2047), max_size=60))
def test_any_token_ids_stream_to_what_they_decode_to(tokenizer, token_ids):
    """Random ids of a byte-level vocabulary: mostly broken UTF-8, with special tokens in between."""
    assert stream(tokenizer, token_ids)[0] == tokenizer.decode(token_ids)


@settings(max_examples=200)
@given(st.text(max_size=40), st.text(max_size=5))
def test_any_text_streams_back_whole(tokenizer, text, prompt):
    token_ids = tokenizer.encode(text, add_special_tokens=False)
    assert stream(tokenizer, token_ids, tuple(tokenizer.encode(prompt)))[0] == text


def test_an_emoji_of_four_bytes_shows_when_its_last_byte_has_come(tokenizer):
    token_ids = tokenizer.encode("a👩‍💻b", add_special_tokens=False)
    assert len(token_ids) > 5, "the emoji must be several tokens for this test to say anything"
    joined, deltas, _ = stream(tokenizer, token_ids)
    assert joined == "a👩‍💻b"
    assert not any("\ufffd" in delta for delta in deltas)


def test_a_decoder_that_drops_leading_spaces_keeps_those_between_words():
    """As sentencepiece decoders do: words carry their space in front, the first word of a text loses it."""
    words = ["▁the", "▁quick", "▁fox", "es"]

    def decode(ids):
        return "".join(words[i] for i in ids).replace("▁", " ").removeprefix(" ")

    detokenizer = Detokenizer(decode, [0], SamplingParams())
    assert "".join(detokenizer.append(i)[0] for i in (1, 2, 3)) + detokenizer.flush() == " quick foxes"


@settings(max_examples=400)
@given(st.text("ab.", max_size=30), st.lists(st.text("ab.", min_size=1, max_size=4), min_size=1, max_size=3), st.data())
def test_however_text_is_cut_it_ends_before_the_first_stop_string(text, stops, data):
    """Reference: the shortest beginning of the text that holds a stop string, searched whole."""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    buffer, shown, found = StopStrings(stops), "", None
    for piece in pieces:
        fresh, found = buffer.feed(piece)
        shown += fresh
        if found:
            break
    else:
        shown += buffer.flush()
    if not any(stop in text for stop in stops):
        assert (shown, found) == (text, None)
        return
    assert found in stops
    assert not any(stop in shown for stop in stops)
    assert text.startswith(shown + found)
    assert min(text.find(stop) for stop in stops if stop in text) <= len(shown)


@pytest.mark.parametrize("include", [False, True])
def test_a_stop_string_that_spans_tokens_is_cut_and_named(tokenizer, include):
    token_ids = tokenizer.encode("one two STOP three", add_special_tokens=False)
    joined, deltas, stop = stream(tokenizer, token_ids, stop=["o STOP t"], include_stop_str_in_output=include)
    assert stop == "o STOP t"
    assert joined == ("one two STOP t" if include else "one tw")


def test_text_that_only_begins_like_a_stop_string_is_shown_as_soon_as_that_is_known():
    buffer = StopStrings(["\n\nUser:"])
    assert buffer.feed("hello\n") == ("hello", None)
    assert buffer.feed("\nUs") == ("", None)
    assert buffer.feed("age") == ("\n\nUsage", None)
    assert buffer.flush() == ""


def test_a_stop_string_may_begin_before_min_tokens_and_end_after_them():
    detokenizer = Detokenizer(lambda ids: "".join(" abcde"[i] for i in ids), [0], SamplingParams(stop=["bc"], min_tokens=2))
    assert [detokenizer.append(i) for i in (1, 2, 3)] == [("a", None), ("", None), ("", "bc")]
    early = Detokenizer(lambda ids: "".join(" abcde"[i] for i in ids), [0], SamplingParams(stop=["bc"], min_tokens=3))
    assert "".join(early.append(i)[0] for i in (1, 2, 3, 4)) + early.flush() == "abcd"


def test_stop_strings_are_ignored_before_min_tokens(tokenizer):
    token_ids = tokenizer.encode("end end end", add_special_tokens=False)
    per_word = len(token_ids) // 3
    joined, _, stop = stream(tokenizer, token_ids, stop=["end"], min_tokens=per_word)
    assert stop == "end" and joined.strip() == "end"

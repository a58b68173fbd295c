"""A transformers model whose KV cache is kept in 8 bits."""

from __future__ import annotations

import pytest
import torch

from labkit.bench.examples import llama
from labkit.quantization.eight_bit_cache import EightBitCache, bytes_per_token, keep_in_8_bits
from labkit.quantization.errors import QuantizationError


def logits(ids, format: str | None = None):
    model = llama()
    if format:
        keep_in_8_bits(model, format)
    with torch.inference_mode():
        return model(ids).logits


def test_a_sequence_in_pieces_gives_what_it_gives_at_once(ids):
    whole, cache, pieces = logits(ids, "int8"), EightBitCache("int8"), []
    model = llama()
    with torch.inference_mode():
        for piece in ids.split([7, 1, 24], 1):
            pieces.append(model(piece, past_key_values=cache, use_cache=True).logits)
    torch.testing.assert_close(torch.cat(pieces, 1), whole, rtol=1e-4, atol=1e-4)


def test_finer_formats_stay_closer_to_the_model(ids):
    exact = logits(ids)
    lost = [((logits(ids, format) - exact).norm() / exact.norm()).item() for format in ("int8", "e4m3", "e5m2")]
    assert 0 < lost[0] < lost[1] < lost[2] < 0.2


@pytest.mark.parametrize("format", ["int8", "e4m3"])
def test_a_token_costs_a_byte_a_number_and_a_scale_for_each_head(format):
    assert bytes_per_token(llama(), format) == 2 * 2 * 2 * (16 + 2)  # layers, keys and values, heads


def test_sequences_do_not_share_a_cache(ids):
    model = llama()
    keep_in_8_bits(model, "int8")
    with torch.inference_mode():
        first, again = model(ids[:1]).logits, model(ids[:1]).logits
    assert torch.equal(first, again)


def test_an_unknown_format_is_refused_with_those_there_are():
    with pytest.raises(QuantizationError, match="there is no KV format 'int4': there are int8, e4m3, e5m2"):
        keep_in_8_bits(llama(), "int4")

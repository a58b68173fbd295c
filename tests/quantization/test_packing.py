"""Bits without gaps."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from labkit.quantization.packing import pack, packed_bytes, unpack


@given(st.integers(1, 8), st.integers(1, 70), st.integers(0, 10**6))
def test_what_is_packed_comes_back_and_takes_the_fewest_bytes(bits, count, seed):
    codes = torch.randint(0, 2**bits, (3, count), generator=torch.Generator().manual_seed(seed))
    data = pack(codes, bits)
    assert data.dtype == torch.uint8
    assert data.shape == (3, -(-count * bits // 8)) == (3, packed_bytes(count, bits))
    assert torch.equal(unpack(data, bits, count).long(), codes)


@given(st.integers(1, 8), st.lists(st.integers(0, 255), min_size=1, max_size=40))
def test_the_bytes_are_one_little_endian_number(bits, values):
    codes = [value % 2**bits for value in values]
    number = sum(code << (bits * place) for place, code in enumerate(codes))
    assert bytes(pack(torch.tensor(codes), bits).tolist()) == number.to_bytes(packed_bytes(len(codes), bits), "little")

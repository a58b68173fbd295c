"""Codes of 1 to 8 bits in bytes, without gaps: the bit packing of every method.

Along the last dimension code number i takes the bits i*b to i*b + b - 1 of one long little-endian number. Eight codes fill exactly `b`
bytes, so that a code touches two bytes at most. The int32 words of GPTQ and compressed-tensors checkpoints hold the same bits in the same
order.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def pack(codes: Tensor, bits: int) -> Tensor:
    """codes [..., n] of any integer type, each below 2**bits -> uint8 [..., ceil(n * bits / 8)]."""
    count = codes.shape[-1]
    if bits == 8:
        return codes.to(torch.uint8)
    octets = F.pad(codes.to(torch.int64), (0, -count % 8)).unflatten(-1, (-1, 8))
    number = (octets << (bits * torch.arange(8, device=codes.device))).sum(-1, keepdim=True)
    data = (number >> (8 * torch.arange(bits, device=codes.device))) & 255
    return data.to(torch.uint8).flatten(-2)[..., : -(-count * bits // 8)]


def unpack(data: Tensor, bits: int, count: int) -> Tensor:
    """uint8 [..., ceil(count * bits / 8)] -> codes uint8 [..., count]: the inverse of `pack`."""
    if bits == 8:
        return data
    if bits == 4:  # what follows does it too, but not as fast
        return torch.stack((data & 15, data >> 4), -1).flatten(-2)[..., :count]
    groups = F.pad(data, (0, -data.shape[-1] % bits)).unflatten(-1, (-1, bits))
    codes = data.new_empty(*groups.shape[:-1], 8)
    for place in range(8):
        byte, shift = divmod(place * bits, 8)
        code = groups[..., byte] >> shift
        if shift + bits > 8:
            code |= groups[..., byte + 1] << (8 - shift)
        codes[..., place] = code & (2**bits - 1)
    return codes.flatten(-2)[..., :count]


def packed_bytes(count: int, bits: int) -> int:
    """Bytes that one row of `count` codes takes."""
    return -(-count * bits // 8)


def words(codes: Tensor, bits: int) -> Tensor:
    """codes [..., n] -> int32 [..., n * bits / 32], the words of checkpoints. n * bits must divide by 32."""
    return pack(codes, bits).contiguous().view(torch.int32)


def from_words(data: Tensor, bits: int) -> Tensor:
    """int32 [..., n * bits / 32] -> codes uint8 [..., n]: the inverse of `words`."""
    return unpack(data.contiguous().view(torch.uint8), bits, data.shape[-1] * 32 // bits)

"""Which physical block holds the KV of which prefix. A block's hash covers its own tokens and, through its parent's hash, all before it."""
from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Protocol


def hash_block(parent: str | None, token_ids: Sequence[int]) -> str:
    """16 hex characters that stand for these tokens *in this position after this prefix*: equal hashes mean equal KV."""
    return sha256((parent or "").encode() + array("q", token_ids).tobytes()).hexdigest()[:16]


class PrefixCacheLike(Protocol):
    """What the KV manager asks of a prefix cache. Hashes and blocks are in logical order."""

    enabled: bool

    def find(self, hashes: Iterable[str]) -> list[int]:
        """Blocks of the longest known prefix of `hashes`. Takes no reference: the caller does, before it allocates."""

    def insert(self, block_id: int, block_hash: str, parent: str | None) -> bool:
        """Make a full block findable. False when another block already answers for this hash: the first one stays."""

    def evict(self, block_ids: Iterable[int]) -> None:
        """Forget these blocks, whose KV is about to be overwritten."""

    def hash_of(self, block_id: int) -> str | None:
        """The hash under which a block can be found, None if it cannot."""

    def entries(self) -> list[tuple[int, str, str | None]]:
        """Every findable block: (block id, hash, hash of its parent)."""


class PrefixCache:
    """Hash to block id, and back."""

    enabled = True

    def __init__(self) -> None:
        self.block_of: dict[str, int] = {}
        self.hashes: dict[int, tuple[str, str | None]] = {}  # block id -> hash, parent's hash

    def find(self, hashes: Iterable[str]) -> list[int]:
        block_ids = []
        for block_hash in hashes:
            block_id = self.block_of.get(block_hash)
            if block_id is None:
                break
            block_ids.append(block_id)
        return block_ids

    def insert(self, block_id: int, block_hash: str, parent: str | None) -> bool:
        if block_hash in self.block_of:
            return False
        self.block_of[block_hash] = block_id
        self.hashes[block_id] = block_hash, parent
        return True

    def evict(self, block_ids: Iterable[int]) -> None:
        for block_id in block_ids:
            block_hash, _ = self.hashes.pop(block_id, (None, None))
            if block_hash is not None:
                del self.block_of[block_hash]

    def hash_of(self, block_id: int) -> str | None:
        return self.hashes.get(block_id, (None, None))[0]

    def entries(self) -> list[tuple[int, str, str | None]]:
        return [(block_id, block_hash, parent) for block_id, (block_hash, parent) in self.hashes.items()]


class NoPrefixCache:
    """The off-switch: finds nothing, keeps nothing."""

    enabled = False

    def find(self, hashes: Iterable[str]) -> list[int]:
        return []

    def insert(self, block_id: int, block_hash: str, parent: str | None) -> bool:
        return False

    def evict(self, block_ids: Iterable[int]) -> None:
        return None

    def hash_of(self, block_id: int) -> str | None:
        return None

    def entries(self) -> list[tuple[int, str, str | None]]:
        return []

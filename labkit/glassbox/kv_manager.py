"""Block tables of requests: finding shared blocks, giving new ones, taking all of them back. Ids only."""
from __future__ import annotations

from collections.abc import Sequence

from labkit.glassbox.block_pool import BlockPool
from labkit.glassbox.prefix_cache import PrefixCacheLike, hash_block
from labkit.glassbox.request import Request


class KVCacheManager:
    """Keeps `request.block_table` and the pool in agreement: a block's reference count is the number of tables it stands in.

    `hashed` collects (block id, hash, parent hash) of blocks that became findable, until `take_hashed`; `queries` and `hits` count
    prefix cache tokens, as vLLM's metrics of these names do.
    """

    def __init__(self, num_blocks: int, block_size: int, prefix_cache: PrefixCacheLike) -> None:
        self.block_size = block_size
        self.pool = BlockPool(num_blocks)
        self.prefix_cache = prefix_cache
        self.hashed: list[tuple[int, str, str | None]] = []
        self.queries = 0
        self.hits = 0

    @property
    def usage(self) -> float:
        """Blocks held by requests over all blocks, 0 to 1."""
        return self.pool.num_used / self.pool.num_blocks

    def find_cached_blocks(self, request: Request) -> list[int]:
        """Blocks of the longest cached prefix of a request without a block table.

        At least one token is left to compute even if all of them are cached: the model must run to say what comes next.
        """
        if not self.prefix_cache.enabled:
            return []
        self._extend_hashes(request)
        return self.prefix_cache.find(request.block_hashes[: (request.num_tokens - 1) // self.block_size])

    def has_room(self, request: Request, shared: Sequence[int]) -> bool:
        """Whether the pool could hold all tokens of a waiting request behind its `shared` blocks."""
        needed = -(-request.num_tokens // self.block_size) - len(shared)
        return needed <= self._available(shared)

    def allocate(
        self, request: Request, num_new_tokens: int, shared: Sequence[int] = (), num_reserved_tokens: int = 0
    ) -> list[int] | None:
        """Room for `num_new_tokens` more tokens after the computed ones, behind the `shared` blocks of a new admission; at least
        `num_reserved_tokens` in all.

        Returns the new block ids, possibly none; or None, with nothing changed, when the pool cannot give them.
        """
        computed = request.num_computed_tokens + len(shared) * self.block_size
        end = computed + num_new_tokens
        needed = -(-max(end, num_reserved_tokens) // self.block_size) - len(request.block_table) - len(shared)
        given: list[int] = []
        if needed > 0 or shared:  # otherwise the next slot is in a block that the request has: most decodes
            if needed > self._available(shared):
                return None
            self.pool.share(shared)
            given = self.pool.allocate(max(needed, 0))
            self.prefix_cache.evict(given)
            request.block_table += shared
            request.block_table += given
            request.num_computed_tokens = computed
        if end // self.block_size > request.num_hashed_blocks:
            self._publish(request, end, len(shared))
        return given

    def release(self, request: Request) -> None:
        """Give the whole table back. Its full blocks stay findable until they are given out again."""
        self.pool.free(request.block_table)
        request.block_table.clear()
        request.num_computed_tokens = 0
        request.num_hashed_blocks = 0

    def resize(self, num_blocks: int) -> None:
        """Make the pool `num_blocks` large, and forget every cached block: what they hold is of no use any more. Raises `ValueError`."""
        self.pool.resize(num_blocks)
        self.prefix_cache.evict([block_id for block_id, _, _ in self.prefix_cache.entries()])

    def take_hashed(self) -> list[tuple[int, str, str | None]]:
        hashed, self.hashed = self.hashed, []
        return hashed

    def forget_hashed(self) -> None:
        """Make unfindable again what became so since the last `take_hashed`: it was not computed."""
        self.prefix_cache.evict([block_id for block_id, _, _ in self.take_hashed()])

    def _available(self, shared: Sequence[int]) -> int:
        """Blocks that can be given once the `shared` ones, some of which may be free, are taken."""
        return self.pool.num_free - sum(map(self.pool.is_free, shared))

    def _publish(self, request: Request, num_tokens: int, num_shared: int) -> None:
        """Make findable the blocks that this step fills up: a request admitted later in the same step may share them, because
        in every layer the KV of all tokens is written before any of it is read."""
        full = min(num_tokens, request.num_tokens) // self.block_size
        start = max(request.num_hashed_blocks, num_shared)
        request.num_hashed_blocks = full
        if not self.prefix_cache.enabled or start >= full:
            return
        self._extend_hashes(request)
        for i in range(start, full):
            parent = request.block_hashes[i - 1] if i else None
            if self.prefix_cache.insert(request.block_table[i], request.block_hashes[i], parent):
                self.hashed.append((request.block_table[i], request.block_hashes[i], parent))

    def _extend_hashes(self, request: Request) -> None:
        size, hashes = self.block_size, request.block_hashes
        for i in range(len(hashes), request.num_tokens // size):
            parent = hashes[-1] if hashes else None
            hashes.append(hash_block(parent, request.token_ids[i * size : (i + 1) * size]))

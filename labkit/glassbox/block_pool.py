"""Physical block ids: who holds how many references, and in which order free ones are given out. No KV bytes here."""
from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable


class BlockPool:
    """Every block id is either held (reference count of 1 or more) or in the free queue.

    The queue is least recently freed first. A free block may still hold KV that the prefix cache knows: it is *cached*, and
    `share` takes it back out of the queue as long as `allocate` has not reached it.
    """

    def __init__(self, num_blocks: int) -> None:
        self.num_blocks = num_blocks
        self.ref_count = [0] * num_blocks
        self.free_queue: OrderedDict[int, None] = OrderedDict.fromkeys(range(num_blocks))

    @property
    def num_free(self) -> int:
        """Blocks that can be given out now, cached ones included."""
        return len(self.free_queue)

    @property
    def num_used(self) -> int:
        return self.num_blocks - len(self.free_queue)

    def is_free(self, block_id: int) -> bool:
        return self.ref_count[block_id] == 0

    def allocate(self, count: int) -> list[int]:
        """Take `count` blocks from the head of the queue, one reference each. Raises `IndexError` when there are fewer."""
        if count > len(self.free_queue):
            raise IndexError(f"{count} blocks asked for, {len(self.free_queue)} free")
        block_ids = [self.free_queue.popitem(last=False)[0] for _ in range(count)]
        for block_id in block_ids:
            self.ref_count[block_id] = 1
        return block_ids

    def share(self, block_ids: Iterable[int]) -> None:
        """Add one reference to each block; free ones leave the queue and keep their KV."""
        for block_id in block_ids:
            if self.ref_count[block_id] == 0:
                del self.free_queue[block_id]
            self.ref_count[block_id] += 1

    def free(self, block_table: Iterable[int]) -> None:
        """Drop one reference of each block of a table. What nobody holds joins the end of the queue, the tail of the table first:
        the head, which more prompts have in common, is evicted last."""
        for block_id in reversed(list(block_table)):
            self.ref_count[block_id] -= 1
            if self.ref_count[block_id] == 0:
                self.free_queue[block_id] = None

    def resize(self, num_blocks: int) -> None:
        """Add free blocks behind the last one, or take free ones away from the end. Raises `ValueError`, with nothing changed, where one
        of those is held."""
        for block_id in range(num_blocks, self.num_blocks):
            if self.ref_count[block_id]:
                raise ValueError(f"the pool cannot shrink to {num_blocks} blocks: block {block_id} is held; free it first")
        for block_id in range(num_blocks, self.num_blocks):
            del self.free_queue[block_id]
        del self.ref_count[num_blocks:]
        added = range(self.num_blocks, num_blocks)
        self.ref_count += [0] * len(added)
        self.free_queue.update(dict.fromkeys(added))
        self.num_blocks = num_blocks

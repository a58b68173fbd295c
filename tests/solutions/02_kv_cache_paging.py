"""Right and typical wrong answers to the exercises of notebook 02."""


def slot(table: list[int], position: int, block_size: int) -> int:
    return table[position // block_size] * block_size + position % block_size


def cached_tokens(earlier: list[int], prompt: list[int], block_size: int) -> int:
    found = 0
    while found + block_size < len(prompt) and found + block_size <= len(earlier):
        if prompt[:found + block_size] != earlier[:found + block_size]:
            break
        found += block_size
    return found


def equal_tokens(earlier: list[int], prompt: list[int], block_size: int) -> int:
    """Counts equal tokens and forgets that only full blocks have a hash."""
    same = 0
    while same < min(len(prompt), len(earlier)) and prompt[same] == earlier[same]:
        same += 1
    return min(same, len(prompt) - 1)


def blocks_without_chain(earlier: list[int], prompt: list[int], block_size: int) -> int:
    """Compares block by block, as if a hash did not depend on what comes before."""
    starts = range(0, len(prompt) - block_size, block_size)
    return block_size * sum(prompt[start:start + block_size] == earlier[start:start + block_size] for start in starts)


def whole_prompt(earlier: list[int], prompt: list[int], block_size: int) -> int:
    """Finds the whole prompt, so that nothing is left to compute."""
    found = 0
    while found + block_size <= min(len(prompt), len(earlier)) and prompt[:found + block_size] == earlier[:found + block_size]:
        found += block_size
    return found


def half_full_blocks(earlier: list[int], prompt: list[int], block_size: int) -> int:
    """Counts a block that the earlier prompt filled only in part."""
    same = equal_tokens(earlier, prompt, block_size)
    return -(-same // block_size) * block_size if same < len(prompt) - 1 and same == len(earlier) else same // block_size * block_size


WRONG = {
    "slot": [
        (lambda table, position, block_size: position, "logical position"),
        (lambda table, position, block_size: table[position // block_size], "counts tokens"),
        (lambda table, position, block_size: table[position // block_size] * block_size, "place inside it"),
        (lambda table, position, block_size: table[max(0, position - 1) // block_size] * block_size + position % block_size, "second"),
    ],
    "cached_tokens": [
        (equal_tokens, "fill a block"),
        (blocks_without_chain, "chain"),
        (whole_prompt, "nothing is left to compute"),
        (half_full_blocks, "never full"),
    ],
}
PREDICTIONS = {
    "in one piece": [("8", "narrower door"), ("2.25", "round down")],
    "on average": [("15", "worst case")],
    "found in the cache": [("500", "own words"), ("576", "finds nothing")],
    "What will happen": [("the last ones are refused", "TGI")],
}

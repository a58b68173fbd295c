"""What is asked: seeded prompts with given lengths and a given share of common beginning."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from labkit.clients.exchange import Request

Lengths = int | tuple[int, int] | Callable[[Random], int]

_WHO = ("Mia", "Tom", "Ana", "Ben", "Lea", "Max", "Eva", "Sam")
_WHAT = ("dog", "cat", "ball", "boat", "tree", "book", "kite", "bird", "box", "hat")
_HOW = ("red", "blue", "small", "big", "old", "new", "green", "soft")
_DID = ("saw", "found", "took", "liked", "wanted", "lost", "gave away", "painted")
_WHERE = ("in the park", "at the river", "by the house", "in the garden", "on the hill", "near the lake")


@dataclass(slots=True, frozen=True)
class Prompts:
    """A distribution of prompts.

    `length` and `max_tokens` are a number, a (low, high) range drawn evenly, or a function of a `random.Random`. The length counts words
    for texts and chats, tokens for `kind="ids"`; how many tokens a text became is in each answer's `usage`. `shared_prefix` is the share
    of each prompt, 0 to 1, that is a common beginning: what a prefix cache can reuse. `vocab` bounds random token ids, the low 16 left out.
    """

    length: Lengths = (16, 48)
    max_tokens: Lengths = 32
    shared_prefix: float = 0.0
    kind: str = "text"  # "text", "chat" or "ids"
    vocab: int = 2048
    temperature: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in ("text", "chat", "ids"):
            raise ValueError(f"prompts of kind {self.kind!r}: there are 'text', 'chat' and 'ids'")
        if not 0 <= self.shared_prefix <= 1:
            raise ValueError(f"shared_prefix is {self.shared_prefix}, a share from 0 to 1")

    def draw(self, n: int, seed: int = 0) -> list[Request]:
        """`n` requests; the same seed gives the same ones, and a longer list begins with the shorter."""
        random = Random(f"prompts/{seed}")
        prefix_of = self._ids if self.kind == "ids" else _words
        beginning: list = []
        requests = []
        for index in range(n):
            own = Random(f"prompts/{seed}/{index}")
            length = max(1, _draw(self.length, own))
            common = round(length * self.shared_prefix)
            if common > len(beginning):
                beginning += prefix_of(common - len(beginning), random)
            content = beginning[:common] + prefix_of(length - common, own)
            prompt = content if self.kind == "ids" else " ".join(content)
            if self.kind == "chat":
                prompt = [{"role": "user", "content": prompt}]
            requests.append(Request(prompt, max(1, _draw(self.max_tokens, own)), self.temperature))
        return requests

    def _ids(self, n: int, random: Random) -> list[int]:
        return [random.randrange(16, self.vocab) for _ in range(n)]


def fixed(prompts: Sequence[str | list], n: int, max_tokens: Lengths = 32, temperature: float = 0.0, seed: int = 0) -> list[Request]:
    """`n` requests from given prompts (texts, lists of token ids, or lists of chat messages), taken in turn."""
    if not prompts:
        raise ValueError("no prompts were given")
    random = Random(f"max_tokens/{seed}")
    return [Request(prompts[i % len(prompts)], max(1, _draw(max_tokens, random)), temperature) for i in range(n)]


def _draw(lengths: Lengths, random: Random) -> int:
    if callable(lengths):
        return int(lengths(random))
    if isinstance(lengths, int):
        return lengths
    low, high = lengths
    if not 1 <= low <= high:
        raise ValueError(f"a length range of {low} to {high}: the lower end is at least 1 and not above the upper one")
    return random.randint(low, high)


def _words(n: int, random: Random) -> list[str]:
    """`n` words of short, plain sentences."""
    words: list[str] = []
    while len(words) < n:
        sentence = f"{random.choice(_WHO)} {random.choice(_DID)} the {random.choice(_HOW)} {random.choice(_WHAT)} {random.choice(_WHERE)}."
        words += sentence.split()
    return words[:n]

"""`GenerationsView`: what the original writes and what its quantized self writes, side by side, with the first token that differs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from labkit.views.board import Board, Dial, Page
from labkit.views.canvas_view import EVERY
from labkit.views.sketch import MONO, Sketch

if TYPE_CHECKING:
    from labkit.quantization.generations import Generations

WIDTH, SIZE, LINE, TOP = 512, 12, 21, 48
BAR = 210
FOOTER = (
    "Greedy: always the most likely token. Box: the first token that differs; dotted below: tokens after it, which have another beginning. "
    "Probabilities: of the two tokens, by each model, after the same beginning."
)


class GenerationsView(Board):
    """`set(prompt=…, method=…)` from code; `shown` is the pair of texts."""

    def __init__(
        self,
        names: Sequence[str],
        prompts: Sequence[str],
        compare: Callable[[str, str], Generations],
        *,
        original: str = "float32",
        badge: tuple[str, str] = ("live", "generated here"),
        every: float = EVERY,
    ):
        """names: of the quantized ones that can be picked. compare: (name, prompt) -> both texts. original: what the left one is called."""
        super().__init__(every)
        self._names, self._prompts, self._compare, self._original, self._badge = list(names), list(prompts), compare, original, badge
        self._kept: dict[tuple[str, str], Generations] = {}
        self._name, self._prompt = self._names[0], self._prompts[0]

    def set(self, *, method: str | None = None, prompt: str | None = None) -> None:
        """method: one of the names; prompt: any text. Raises ValueError for a name that is not there."""
        if method is not None and method not in self._names:
            raise ValueError(f"there is no {method!r} here: there are {', '.join(self._names)}")
        with self._lock:
            self._name, self._prompt = method or self._name, prompt or self._prompt
            if self._prompt not in self._prompts:
                self._prompts.append(self._prompt)
            self._changed_page()

    @property
    def shown(self) -> Generations:
        """Both texts, and where they part."""
        with self._lock:
            key = self._name, self._prompt
            if key not in self._kept:
                self._kept[key] = self._compare(*key)
            return self._kept[key]

    def _turn(self, name: str, value: Any) -> None:
        self.set(**{name: str(value)})

    def _move(self, rows: int, columns: int) -> None:
        at = min(max(0, self._names.index(self._name) + (rows or columns)), len(self._names) - 1)
        self.set(method=self._names[at])

    def page(self) -> Page:
        pair = self.shown
        dials = [
            Dial("method", "compare with", [(name, name) for name in self._names], self._name),
            Dial("prompt", "prompt", [(text, _short(text, 44)) for text in self._prompts], self._prompt),
        ]
        panels = [_text(self._original, pair.original, pair.place), _text(self._name, pair.quantized, pair.place)]
        if pair.place is not None and pair.probabilities is not None:
            tokens = _visible(pair.original[pair.place]), _visible(pair.quantized[pair.place])
            panels += [
                _probabilities(pair.place, self._original, tokens, pair.probabilities[0], 0),
                _probabilities(pair.place, self._name, tokens, pair.probabilities[1], 1),
            ]
        rows = [
            [str(n), _visible(a), _visible(b), "" if a == b else "differs"]
            for n, (a, b) in enumerate(zip(pair.original, pair.quantized, strict=False))
        ]
        return Page(
            "Two generations, greedy",
            f"“{_short(self._prompt, 70)}”",
            self._badge,
            panels,
            self._alt(pair),
            FOOTER,
            "Token by token",
            ["token", self._original, self._name, ""],
            rows,
            dials,
        )

    def _alt(self, pair: Generations) -> str:
        begin = f"Two greedy generations after “{_short(self._prompt, 60)}”, {self._original} and {self._name}"
        if pair.place is None:
            return f"{begin}: all {len(pair.original)} tokens are the same."
        tokens = " against ".join(_visible(texts[pair.place]) for texts in (pair.original, pair.quantized))
        said = f"{begin}: the first difference comes after {pair.place} tokens, {tokens}."
        if pair.probabilities is None:
            return said
        return (
            f"{said} Probabilities of the two: "
            + ", ".join(
                f"{name} {a:.3f} and {b:.3f}" for name, (a, b) in zip((self._original, self._name), pair.probabilities, strict=True)
            )
            + "."
        )


def _short(text: str, most: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= most else "… " + line[-most:].split(" ", 1)[-1]


def _visible(token: str) -> str:
    """A token so that a blank or a line break in it can be seen."""
    return token.replace("\n", "⏎").replace(" ", "·") or "∅"


def _text(name: str, tokens: list[str], place: int | None) -> Sketch:
    char, most = MONO * SIZE, int(WIDTH / (MONO * SIZE))
    words: list[tuple[int, int, str, int]] = []  # column, line, text, token
    column = line = 0
    for n, token in enumerate(tokens):
        text = token.replace("\n", "⏎")
        if column + len(text) > most + (text in ".,;:!?"):  # a full stop may stand out
            column, line = 0, line + 1
            text = text.lstrip(" ") if n != place else text
        words.append((column, line, text, n))
        column += len(text)
        if "\n" in token:
            column, line = 0, line + 1
    lines = 1 + max((at for _, at, _, _ in words), default=0)
    sketch = Sketch(WIDTH, TOP + LINE * lines + 4)
    same = len(tokens) if place is None else place
    sketch.runs(
        [(name, {"weight": 600, "size": 13}), (f"{same} of {len(tokens)} tokens are the same in both", {"fill": "ink2", "dx": 8})], 0, 14
    )
    for column, at, text, n in words:
        x, y = column * char, TOP + LINE * at
        after = place is not None and n > place
        if n == place:
            blank = len(text) - len(text.lstrip(" "))
            sketch.rect(x + blank * char - 2, y - 13, max(1, len(text) - blank) * char + 4, 18, edge="alert", width=1.8, radius=3)
        if text.strip():
            sketch.text(text, x, y, size=SIZE, weight=700 if n == place else 400, fill="ink" if after or n == place else "ink2", mono=True)
        if after and text.strip():
            blank = len(text) - len(text.lstrip(" "))
            sketch.strokes([((x + blank * char, y + 4.5), (x + len(text) * char, y + 4.5))], "alert", 1.1, (1.5, 2))
    return sketch


def _probabilities(place: int, name: str, tokens: tuple[str, str], shares: tuple[float, float], winner: int) -> Sketch:
    sketch = Sketch(WIDTH, 66)
    sketch.rect(0, 0, WIDTH, 66, fill="panel", radius=6)
    sketch.runs(
        [
            (f"after {place} tokens", {"weight": 600, "fill": "alert"}),
            (f"probabilities of the next one, by {name}", {"fill": "ink2", "dx": 8}),
        ],
        14,
        18,
        size=11.5,
    )
    room = 15
    for i, (token, share) in enumerate(zip(tokens, shares, strict=True)):
        y = 37 + 18 * i
        mine = i == winner
        sketch.text(token if len(token) <= room else token[: room - 1] + "…", 14, y, size=12, weight=700 if mine else 400, mono=True)
        x = 14 + room * MONO * 12 + 16
        sketch.rect(x, y - 9, max(1.0, BAR * share), 9, fill="bar" if mine else None, edge="bar", width=1)
        sketch.text(f"{share:.3f}", x + BAR * share + 7, y, size=11, fill="ink2")
    return sketch

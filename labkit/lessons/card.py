"""One small card of feedback, the same words as HTML in a notebook and as text elsewhere."""
from __future__ import annotations

import re
from dataclasses import dataclass
from html import escape

from labkit.lessons.outcome import MARKS, OPEN, PASSED, WRONG

COLOURS = {PASSED: "#007A59", WRONG: "#B84A00", OPEN: "#8A94A1"}


@dataclass(slots=True, frozen=True)
class Card:
    """`state` gives mark and colour (never the colour alone); `text` may hold `code` in backticks and line breaks."""

    state: str
    title: str
    text: str = ""

    def html(self) -> str:
        colour = COLOURS[self.state]
        body = f'<div style="margin-top:2px">{_marked(self.text)}</div>' if self.text else ""
        return (f'<div role="status" style="border-left:4px solid {colour};padding:4px 12px;margin:4px 0;max-width:52em;line-height:1.45">'
                f'<span aria-hidden="true" style="color:{colour};font-weight:700">{MARKS[self.state]}</span> '
                f'<b>{_marked(self.title)}</b>{body}</div>')

    _repr_html_ = html

    def __str__(self) -> str:
        return f"{MARKS[self.state]} {self.title}" + "".join(f"\n  {line}" for line in self.text.splitlines())

    __repr__ = __str__


def show(thing: object) -> None:
    """Display `thing` in the running notebook cell; print it where there is no notebook."""
    from IPython import get_ipython
    from IPython.display import display

    if get_ipython() is None:
        print(thing)
    else:
        display(thing)


def _marked(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text)).replace("\n", "<br>")

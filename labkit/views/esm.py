"""`bundle`: several small ECMAScript modules as the one that anywidget loads. Each stays a module of its own for `node --test`."""
from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent
IMPORT = re.compile(r"^import\b[^;]*;\s*?$", re.MULTILINE)
EXPORT = re.compile(r"^export (?!default)", re.MULTILINE)


def bundle(entry: str, parts: tuple[str, ...]) -> str:
    """`parts` and then `entry`, in order of dependence, in one scope: their names must differ. `STYLE` is style.json."""
    style = (HERE / "style.json").read_text(encoding="utf-8")
    sources = [IMPORT.sub("", (HERE / part).read_text(encoding="utf-8")) for part in (*parts, entry)]
    return f"const STYLE = {style};\n" + "\n".join([*(EXPORT.sub("", s) for s in sources[:-1]), sources[-1]])

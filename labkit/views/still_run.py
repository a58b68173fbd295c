"""The lower part of a still figure: the waste ledger, and the run with its marks."""
from __future__ import annotations

from labkit.views.history import History
from labkit.views.pen import Pen, text_width
from labkit.views.picture import EDGE, WIDTH
from labkit.views.scene import Contiguous, Scene, pool_words
from labkit.views.still_layout import Layout
from labkit.views.words import percent, thousands

X = 132
W = WIDTH - EDGE - X
TALL = 44
SHORTEST = 60  # positions that the track spans at least


def ledger(pen: Pen, scene: Scene, layout: Layout) -> None:
    c, y, parts, plan = pen.colours, layout.ledger_y, scene.ledger, scene.contiguous
    total = sum(parts.values())
    pen.text("Waste ledger", EDGE, y + 14, weight=600)
    pen.text("if contiguous", EDGE, y + 41, fill=c["ink2"])
    if plan.running:
        pen.text(f"{len(plan.requests)} of {plan.running} would run", EDGE, y + 55, size=10.5, fill=c["muted"])

    def words(name: str, unit: str = "") -> list[str]:
        n = parts[name]
        share = percent(n / total)
        return [f"{name} {thousands(n)}{unit} · {share}", f"{name} {thousands(n)}", f"{name} {share}", share]

    at = float(X)
    widths = {name: W * parts[name] / total for name in ("useful", "tail", "cached", "free")}
    pen.rect(at, y, widths["useful"], 20, fill=c["bar"])
    useful = pen.fitting(words("useful", " slots"), widths["useful"] - 14, 11.5, 600)
    pen.text(useful, at + 8, y + 14, size=11.5, weight=600, fill="#FFFFFF")
    at += widths["useful"]
    if parts["tail"]:
        pen.rect(at, y, max(1, widths["tail"]), 20, fill=c["alert"])
        middle, text = at + widths["tail"] / 2, f"empty tail slots {thousands(parts['tail'])} · {percent(parts['tail'] / total)}"
        half = text_width(text, 11, 600) / 2
        pen.rect(middle - 0.5, y - 3, 1, 3, fill=c["alert"])
        pen.text(text, min(max(middle, X + half), X + W - half), y - 6, size=11, weight=600, fill=c["alert"], align="center")
        at += widths["tail"]
    if parts["cached"]:
        pen.hatch(at, y, widths["cached"], 20, c["edge"], width=1.5)
        if text := pen.fitting(words("cached"), widths["cached"] - 18, 11.5, 600):
            pen.rect(at + 5, y + 3, text_width(text, 11.5, 600) + 10, 14, fill=c["paper"])
            pen.text(text, at + 10, y + 14, size=11.5, weight=600)
        at += widths["cached"]
    pen.text(pen.fitting(words("free"), widths["free"] - 14, 11.5, 600), at + 8, y + 14, size=11.5, weight=600)
    pen.rect(X + 0.5, y + 0.5, W - 1, 19, edge=c["edge"], width=0.9)
    _contiguous(pen, plan, W / total, y + 30)


def _contiguous(pen: Pen, plan: Contiguous, scale: float, y: float) -> None:
    c, at = pen.colours, float(X)
    for letter, written in plan.requests:
        own, rest, unwritten = written * scale, (plan.reserve - written) * scale, plan.reserve - written
        pen.rect(at, y, own, 13, fill=c["bar"])
        name = pen.fitting([f"{letter} {thousands(written)}", letter], own - 14, 11, 600)
        pen.text(name, at + 8, y + 10.5, size=11, weight=600, fill="#FFFFFF")
        pen.rect(at + own, y, rest, 13, fill=c["alert"], alpha=0.25)
        never = f"never written: {thousands(unwritten)} slots"
        reserved = f"reserved for {letter} up to {thousands(plan.reserve)}, {never}"
        text = pen.fitting([reserved, f"reserved, {never}", never, thousands(unwritten)], rest - 14, 11)
        pen.text(text, at + own + 8, y + 10.5, size=11)
        at += own + rest
        pen.rect(at - 1, y, 1, 13, fill=c["paper"])
    pen.rect(X + 0.5, y + 0.5, W - 1, 12, edge=c["edge"], width=0.9)
    if plan.left:
        pen.text(pen.fitting(left_words(plan), X + W - at - 14, 11), at + 8, y + 10.5, size=11)


def left_words(plan: Contiguous) -> list[str]:
    """What the rest of a contiguous pool is good for, from long to short."""
    fit, left = len(plan.requests), f"{thousands(plan.left)} left"
    if not plan.running:
        return [f"{thousands(plan.left)} slots: one reservation of {thousands(plan.reserve)} for each request", left]
    if fit == plan.running:
        return [left]
    if not fit:
        return [f"{left}: a single reservation takes {thousands(plan.reserve)}", left]
    next_one = ["", "a second", "a third", "a fourth", "a fifth"][fit] if fit < 5 else "another"
    return [f"{left}: too few for {next_one} request", left]


def timeline(pen: Pen, scene: Scene, history: History, position: int, layout: Layout) -> None:
    c, y, base = pen.colours, layout.track_y, layout.track_y + TALL
    pen.text("Step", EDGE, y - 12, weight=600)
    x = X
    for kind in ("admit", "share", "preempt", "finish"):
        mark(pen, kind, x + 5, y - 28)
        x += 30 + pen.text(kind, x + 14, y - 24, size=11, fill=c["ink2"])
    pen.rect(X + 0.5, y + 0.5, W - 1, TALL, edge=c["line"])
    if not len(history):
        pen.text("nothing yet: send a request", X + 12, y + 26, fill=c["muted"])
        return
    span = max(history.last - history.first, SHORTEST)

    def at(p: int) -> float:
        return X + W * (p - history.first) / span

    here = at(position)
    _pools(pen, scene, history, at, y)
    _curve(pen, scene, history, at, y)
    pen.rect(here, y + 1, at(history.last) - here, TALL - 1, fill=c["paper"], alpha=0.62)
    _names(pen, scene, history, at, y, here)
    _marks(pen, history, at, y)
    _axis(pen, history, position, at, base)
    pen.rect(here - 1, y - 15, 2, TALL + 16, fill=c["ink"])
    pen.circle(here, base, 6.5, fill=c["ink"], edge=c["paper"], width=2)


def _pools(pen: Pen, scene: Scene, history: History, at, y: float) -> None:
    """Where the pool was smaller than it has been at its largest, what it did not have is shaded, and each change of size named there."""
    c, pools, most = pen.colours, history.pools, history.largest() - scene.null
    for i, (begin, blocks) in enumerate(pools):
        top = y + TALL * (1 - (blocks - scene.null) / most)
        if top <= y:
            continue
        left, right = at(begin), at(pools[i + 1][0] if i + 1 < len(pools) else history.last)
        pen.rect(left, y + 1, right - left, top - y - 1, fill=c["panel"])
        pen.rect(left, top - 0.5, right - left, 1, fill=c["edge"])
        k = i + 1 if i + 1 < len(pools) else i
        if k == 0 or top - y <= 13:
            continue
        words = pen.fitting([pool_words(pools[k - 1][1], pools[k][1])], right - left - 10, 10.5)
        pen.text(words, right - 5 if k > i else left + 5, y + 12, size=10.5, fill=c["ink2"], align="right" if k > i else "left")


def _curve(pen: Pen, scene: Scene, history: History, at, y: float) -> None:
    c, total, base = pen.colours, history.largest() - scene.null, y + TALL
    stride = max(1, len(history) // (2 * W))
    points = sorted({*range(0, len(history), stride), len(history) - 1})
    xs = [at(history.first + i) for i in points]
    used = [base - TALL * history.used[i] / total for i in points]
    top = [base - TALL * (history.used[i] + history.cached[i]) / total for i in points]
    if len(points) < 2:
        return
    band = pen.polygon([*zip(xs, top, strict=True), *reversed([*zip(xs, used, strict=True)])])
    pen.hatch(X, y, W, TALL, c["edge"], width=1.1, clip=band)
    pen.polygon([(xs[0], base), *zip(xs, used, strict=True), (xs[-1], base)], fill=c["area"])
    pen.line([*zip(xs, used, strict=True)], c["ink2"], 1.2)


def _names(pen: Pen, scene: Scene, history: History, at, y: float, here: float) -> None:
    """Each band's name where the band is thickest, on the part that is not washed out if there is enough of it."""
    c, total, raster, taken = pen.colours, history.largest() - scene.null, 12, []
    past = here - X > 150
    begin, end = (X, here) if past else (here, at(history.last))
    inside = [i for i in range(0, len(history), max(1, len(history) // (4 * raster))) if begin < at(history.first + i) < end]
    lines = [at(m.position) for m in history.marks if m.kind == "preempt"]
    for name in ("in use", "cached", "free"):
        w, best = text_width(name, 11, 600) + 8, (0.0, 0.0, 0.0)
        for i in inside:
            used, cached, x = history.used[i], history.cached[i], at(history.first + i)
            room = next(blocks for begin, blocks in reversed(history.pools) if begin <= history.first + i) - scene.null
            low, thick = {"in use": (0, used), "cached": (used, cached), "free": (used + cached, room - used - cached)}[name]
            if thick * TALL / total >= 14 and x - w / 2 > begin and x + w / 2 < end - 6 and all(abs(t - x) > w + 24 for t in taken) and all(
                    abs(line - x) > w / 2 for line in lines):
                best = max(best, (thick, x, y + TALL - TALL * (low + thick / 2) / total))
        if not best[0]:
            continue
        _, x, middle = best
        taken.append(x)
        if name == "cached":
            pen.box(x - w / 2, middle - 6.5, w, 13, 2, fill=c["paper"])
        pen.text(name, x, middle + 4, size=11, weight=600, fill=c["onArea"] if past and name == "in use" else c["ink2"], align="center")


def mark(pen: Pen, kind: str, x: float, y: float) -> None:
    c = pen.colours
    if kind == "admit":
        pen.polygon([(x - 4.2, y + 3.5), (x + 4.2, y + 3.5), (x, y - 4.5)], fill=c["ink"])
    elif kind == "share":
        pen.polygon([(x, y - 5), (x + 4.6, y), (x, y + 5), (x - 4.6, y)], fill=c["paper"], edge=c["ink"], width=1.6)
    elif kind == "finish":
        pen.rect(x - 3.6, y - 3.6, 7.2, 7.2, fill=c["paper"], edge=c["ink2"], width=1.6)
    else:
        pen.line([(x - 4, y - 4), (x + 4, y + 4)], c["alert"], 2.4)
        pen.line([(x - 4, y + 4), (x + 4, y - 4)], c["alert"], 2.4)


def _marks(pen: Pen, history: History, at, y: float) -> None:
    edge, preempts = float("-inf"), [m for m in history.marks if m.kind == "preempt"]
    taken = [(at(m.position) - 14 - text_width(m.letter, 11, 700), at(m.position) + 11) for m in preempts]
    for m in history.marks:
        if m.kind == "preempt":
            continue
        x = max(at(m.position), edge + 9)
        x = max([x, *(right for left, right in taken if left < x < right)])
        if x - at(m.position) <= 24 and x <= X + W - 4:
            mark(pen, m.kind, x, y - 9)
            edge = x
    named = float("-inf")
    for m in preempts:
        x, w = at(m.position), text_width(m.letter, 11, 700)
        pen.line([(x, y), (x, y + TALL)], pen.colours["alert"], 1.3, dash=(2, 2))
        room = x - 8 - w > named
        pen.rect(x - (10 + w if room else 6), y - 16, 16 + w if room else 12, 14, fill=pen.colours["paper"])
        mark(pen, "preempt", x, y - 9)
        if room:
            pen.text(m.letter, x - 8, y - 5, size=11, weight=700, fill=pen.colours["alert"], align="right")
        named = x + 6


def _axis(pen: Pen, history: History, position: int, at, base: float) -> None:
    c, first, last = pen.colours, history.steps[0], history.steps[-1]
    label = f"step {thousands(history.steps[position - history.first])}"
    half = text_width(label, 11, 600) / 2 + 9
    pill = min(max(at(position), X + half - 12), X + W - half)
    raw = max(1, (last - first) / 5)
    power = 10 ** (len(str(int(raw))) - 1)
    step = next(k * power for k in (1, 2, 5, 10) if k * power >= raw)
    for s in range(-(-first // step) * step, last + 1, step):
        x, w = at(history.position_of(s)), text_width(thousands(s), 10.5) / 2
        pen.rect(x - 0.5, base, 1, 4, fill=c["edge"])
        if not pill - half - 4 - w < x < pill + half + 4 + w and x + w <= X + W + 4:
            pen.text(thousands(s), max(x, X + w), base + 18, size=10.5, fill=c["muted"], align="center")
    pen.box(pill - half, base + 8, 2 * half, 17, 8.5, fill=c["ink"])
    pen.text(label, pill, base + 20.5, size=11, weight=600, fill=c["paper"], align="center")

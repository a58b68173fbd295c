"""A load run as one picture: throughput, TTFT and TPOT down one time axis, a dot for every request, distributions beside them."""
from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING

import matplotlib
import numpy
from matplotlib.figure import Figure
from matplotlib.font_manager import get_font_names
from matplotlib.lines import Line2D
from matplotlib.patches import FancyBboxPatch

from labkit.load import metrics
from labkit.load.health import CPU_LIMIT
from labkit.load.table import describe
from labkit.load.words import counted, measured

if TYPE_CHECKING:
    from labkit.load.result import LoadResult

WIDTH, HEIGHT = 1100, 520  # px; all positions below are px from the upper left corner
INK, INK2, MUTED, LINE, EDGE, PANEL = "#1A1F26", "#48525E", "#65707D", "#DDE2E8", "#8A94A1", "#F5F7F9"
ALERT, GOOD = "#B84A00", "#007A59"
PREFILL, DECODE = ("#E69F00", "#8F6200"), ("#0072B2", "#00527F")  # fill, edge
X0, X1, D0, D1 = 146, 680, 694, 794  # time panels, distributions
FOOTER = ("Dot: a request at the time it was sent; cross: failed. TTFT = first content − send. "
          "TPOT = (last − first) ÷ (N − 1).")


class Still(Figure):
    """A Figure that shows itself in any notebook, whether or not pyplot was ever imported."""

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=200, facecolor="white")
        return buffer.getvalue(), {"width": WIDTH, "height": HEIGHT}


def plot(result: LoadResult) -> Figure:
    """The picture of `result`, 1100 px wide. No pyplot: safe in any thread."""
    families = ["Inter"] if "Inter" in get_font_names() else []
    style = {"font.family": [*families, "DejaVu Sans"], "font.size": px(12), "text.color": INK, "axes.linewidth": px(1)}
    with matplotlib.rc_context(style):
        figure = Still(figsize=(WIDTH / 100, HEIGHT / 100), dpi=100, facecolor="white")
        _header(figure, result)
        span = max([(record.t_end - result.origin) / 1e9 for record in result.records if record.t_end], default=1.0) * 1.02
        _throughput(figure, result, span, (70, 90))
        _latency(figure, result, span, (182, 126), "ttft", "TTFT", "from send", PREFILL)
        _latency(figure, result, span, (330, 126), "tpot", "TPOT", "per request", DECODE, last=True)
        _client(figure, result)
        count = sum(record.ok for record in result.records)
        _text(figure, 24, HEIGHT - 14, f"{FOOTER} n = {count} finished.", size=10.5, color=MUTED)
    return figure


def px(size: float) -> float:
    """Points of a length in px, at 100 px an inch."""
    return size * 0.72


def _text(figure: Figure, x: float, y: float, text: str, size: float = 12, color: str = INK, **more):
    return figure.text(x / WIDTH, 1 - y / HEIGHT, text, fontsize=px(size), color=color, **more)


def _axes(figure: Figure, x0: float, x1: float, top: float, height: float):
    axes = figure.add_axes((x0 / WIDTH, 1 - (top + height) / HEIGHT, (x1 - x0) / WIDTH, height / HEIGHT))
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(EDGE)
    axes.tick_params(length=0, labelsize=px(10.5), labelcolor=MUTED, pad=4)
    axes.set_axisbelow(True)
    axes.grid(color=LINE, linewidth=px(1))
    return axes


def _header(figure: Figure, result: LoadResult) -> None:
    title = _text(figure, 24, 31, "Load", size=18, weight="bold")
    right = title.get_window_extent().x1 / figure.dpi * 100
    _text(figure, right + 14, 31, f"{describe(result)} · {counted(result.requests)} requests", color=INK2)
    _rule(figure, (24, WIDTH - 24), (46, 46))
    _badge(figure, result)


def _rule(figure: Figure, x: tuple[float, float], y: tuple[float, float]) -> None:
    figure.add_artist(Line2D([at / WIDTH for at in x], [1 - at / HEIGHT for at in y], color=LINE, linewidth=px(1)))


def _badge(figure: Figure, result: LoadResult) -> None:
    """Dot and green outline: live; square: stand-in. The shape says it without the colour."""
    kind = result.server.get("badge") or "live"
    text = _text(figure, WIDTH - 38, 30, f"{kind} – {result.server.get('name') or result.server['url']}", size=12, ha="right")
    left = text.get_window_extent().x0 / figure.dpi * 100
    text.set(x=left / WIDTH, ha="left")  # hinting moves the left end of right-aligned text with the resolution
    colour = GOOD if kind == "live" else EDGE
    pill = FancyBboxPatch(((left - 26) / WIDTH, 1 - 37 / HEIGHT), (WIDTH + 2 - left) / WIDTH, 23 / HEIGHT, mutation_aspect=WIDTH / HEIGHT,
                          boxstyle=f"round,pad=0,rounding_size={11 / WIDTH}", transform=figure.transFigure, fill=False, edgecolor=colour,
                          linewidth=px(1.25))
    figure.add_artist(pill)
    marker, colour, fill = ("o", GOOD, GOOD) if kind == "live" else ("s", ALERT, "none")
    at = [(left - 12) / WIDTH], [1 - 25.5 / HEIGHT]
    figure.add_artist(Line2D(*at, marker=marker, markersize=px(8), color=colour, markerfacecolor=fill))


def _label(figure: Figure, top: float, name: str, unit: str, value: str, of: str) -> None:
    _text(figure, 24, top + 12, name, size=12.5, weight="bold")
    _text(figure, 24, top + 27, unit, size=10.5, color=MUTED)
    shown = _text(figure, 24, top + 49, value, size=17, weight="bold")
    _text(figure, shown.get_window_extent().x1 / figure.dpi * 100 + 4, top + 49, of, size=11, color=INK2)


def _throughput(figure: Figure, result: LoadResult, span: float, place: tuple[float, float]) -> None:
    axes = _axes(figure, X0, X1, *place)
    stamps, weights = [], []
    for record in result.records:
        events = len(record.t_event)
        stamps += [(stamp - result.origin) / 1e9 for stamp in record.t_event]
        weights += record.n_tok or [record.tokens / max(1, events)] * events
    edges = numpy.linspace(0, span, 61)
    rate = numpy.histogram(stamps, bins=edges, weights=weights)[0] / (edges[1] - edges[0])
    axes.stairs(rate, edges, fill=True, color=INK2, alpha=0.16)
    axes.stairs(rate, edges, color=INK2, linewidth=px(1.5))
    axes.set(xlim=(0, span), ylim=(0, max(rate.max() * 1.12, 1)))
    axes.locator_params(axis="y", nbins=3)
    axes.yaxis.set_major_formatter(lambda value, _: measured(value))
    axes.tick_params(labelbottom=False)
    _label(figure, place[0], "throughput", "tokens / s", measured(result.throughput), "mean")
    _text(figure, D0, place[0] + 12, f"peak {measured(rate.max())}", size=11, color=INK2)
    _text(figure, D0, place[0] + 28, f"{counted(result.output_tokens)} tokens in {measured(result.seconds)} s", size=11, color=INK2)


def _latency(figure: Figure, result: LoadResult, span: float, place: tuple[float, float], metric: str, name: str, unit: str,
             colours: tuple[str, str], last: bool = False) -> None:
    fill, edge = colours
    axes, beside = _axes(figure, X0, X1, *place), _axes(figure, D0, D1, *place)
    dots = [((record.t_send - result.origin) / 1e9, value) for record in result.records
            if record.ok and (value := metrics.LATENCIES[metric](record)) is not None]
    heights = [value for _, value in dots]
    low, high = _limits(heights)
    scale = "log" if low > 0 and high / low > 12 else "linear"
    for one in (axes, beside):
        one.set(yscale=scale, ylim=(low, high))
        one.tick_params(labelbottom=False, which="both", length=0)
        one.minorticks_off()
    beside.tick_params(labelleft=False)
    beside.grid(visible=False)
    beside.spines["left"].set(visible=True, color=EDGE)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value / 1000:g} s" if value >= 1000 else f"{value:g}")
    if scale == "linear":
        axes.locator_params(axis="y", nbins=4)
    axes.plot(*zip(*dots, strict=True) if dots else ([], []), "o", markersize=px(6.5), markerfacecolor=fill, markeredgecolor=edge,
              markeredgewidth=px(1), alpha=0.85, clip_on=False)
    failed = [(record.t_send - result.origin) / 1e9 for record in result.records if record.error and record.t_send]
    axes.plot(failed, [0.06] * len(failed), "x", color=ALERT, markersize=px(7), markeredgewidth=px(1.75),
              transform=axes.get_xaxis_transform())
    if objective := result.objectives.get(metric):
        axes.axhline(objective, color=ALERT, linewidth=px(1.25), linestyle=(0, (4, 3)))
        axes.annotate(f"SLO {objective:g} ms", (0.01, objective), xycoords=("axes fraction", "data"), xytext=(0, 3),
                      textcoords="offset points", fontsize=px(10.5), color=ALERT, weight="bold", zorder=1.5,
                      bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5, "alpha": 0.85})
    axes.set_xlim(0, span)
    if last:
        axes.tick_params(labelbottom=True)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g} s" if value else "0")
    _distribution(beside, result, metric, heights, scale, fill, edge)
    median = measured(numpy.median(heights)) if heights else "–"
    _label(figure, place[0], name, f"{unit}, median", median, "ms")


def _limits(heights: list[float]) -> tuple[float, float]:
    if not heights:
        return 0.0, 1.0
    low, high = min(heights), max(heights)
    return (low / 1.6, high * 1.6) if high > 8 * low > 0 else (0.0, high * 1.15)


def _distribution(axes, result: LoadResult, metric: str, heights: list[float], scale: str, fill: str, edge: str) -> None:
    low, high = axes.get_ylim()
    edges = numpy.geomspace(low, high, 25) if scale == "log" else numpy.linspace(low, high, 25)
    counts = numpy.histogram(heights, bins=edges)[0]
    axes.stairs(counts, edges, orientation="horizontal", fill=True, facecolor=fill, edgecolor=edge, linewidth=px(1))
    axes.set(xlim=(0, max(counts.max(), 1) * 1.05), xticks=[])
    axes.spines["bottom"].set_visible(False)
    marks = [(p, result.percentile(metric, p)) for p in (50, 95)]
    places = _spread([axes.transAxes.inverted().transform(axes.transData.transform((0, found.value)))[1] if found.value else 1.0
                      for _, found in marks])
    for (p, found), at in zip(marks, places, strict=True):
        if found.value is not None:
            axes.axhline(found.value, color=INK, linewidth=px(1.25), linestyle=":" if p == 50 else "-", marker="s" if p == 50 else "o",
                         markersize=px(4.5), markevery=[1], clip_on=False)
        text = f"p{p}  {found} ms" if found.value is not None else f"p{p}  n too small"
        axes.annotate(text, (1.08, at), xycoords="axes fraction", va="center", fontsize=px(11), color=INK if found.value else MUTED)


def _spread(places: list[float], gap: float = 0.13) -> list[float]:
    """Heights of the p50 and the p95 label, pushed apart until they do not overlap, kept inside the panel."""
    low, high = places
    if high - low < gap:
        high = min(1.0, low + gap)
        low = high - gap
    return [low, high]


def _client(figure: Figure, result: LoadResult) -> None:
    """Whether the ruler can be trusted: each figure of the generator against its limit."""
    health, left, right = result.client, 918, WIDTH - 24
    colour = ALERT if health.client_limited else GOOD
    _rule(figure, (900, 900), (64, 456))
    _text(figure, left, 82, ("× client-limited" if health.client_limited else "✓ client healthy"), size=12.5, weight="bold", color=colour,
          family="DejaVu Sans")
    rows = [("send slip p99", f"{health.send_slip_p99_ms:.2g} ms", health.send_slip_p99_ms > health.slip_limit_ms),
            ("loop lag p99", f"{health.lag_p99_ms:.2g} ms", health.lag_p99_ms > health.lag_limit_ms),
            ("CPU of one core", f"{100 * health.cpu:.0f} %", health.cpu > CPU_LIMIT)]
    for row, (name, value, over) in enumerate(rows):
        y = 106 + 20 * row
        _text(figure, left, y, name, size=11, color=INK2)
        _text(figure, right, y, value, size=11, weight="bold", ha="right", color=ALERT if over else INK)
    y = 186
    for name, value, loud in _facts(result):
        _text(figure, left, y, name, size=11, color=INK2)
        _text(figure, right, y, value, size=11, weight="bold", ha="right", color=ALERT if loud else INK)
        y += 20


def _facts(result: LoadResult) -> list[tuple[str, str, bool]]:
    """Name, value, and whether it is bad news."""
    ok = sum(record.ok for record in result.records)
    facts = [("finished", f"{counted(ok)} of {counted(result.requests)}", ok < result.requests)]
    facts += [(f"failed, {cause}", counted(count), True) for cause, count in result.failures.items()]
    if result.objectives:
        share = sum(metrics.is_good(record, result.objectives) for record in result.records) / max(1, len(result.records))
        facts.append(("goodput", f"{result.goodput():.3g} req/s, {100 * share:.0f} %", not math.isclose(share, 1)))
    for name, metric, p in ((metrics.gap_name(result.records), "gap", 99), ("E2E", "e2e", 50)):
        found = result.percentile(metric, p)
        facts.append((f"{name} p{p}", str(found) if found.value is None else f"{found} ms", False))
    return facts

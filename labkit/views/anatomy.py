"""One streamed request taken apart: what its client saw and what the engine did, on the clock that they share."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from labkit.trace import Run, Step
from labkit.views.pen import Pen
from labkit.views.picture import EDGE, WIDTH, Picture, banner
from labkit.views.scene import badge
from labkit.views.words import percent, spoken

X0, X1 = 132, WIDTH - EDGE
STAGES = ("to the engine", "queue", "prefill", "decode steps", "between steps", "to the client")
MEANING = dict(zip(STAGES, ("HTTP, tokenizing", "until first scheduled", "until the first token", "computing", "the engine's own loop",
                            "detokenizing, network"), strict=True))


@dataclass(slots=True)
class Anatomy:
    """Seconds. `steps` are (begin, end, tokens) of the engine, `stamps` the arrivals at the client, both counted from the sending."""

    prompt: int  # tokens
    outputs: int  # tokens
    steps: list[tuple[float, float, int]]
    stamps: list[float]
    arrival: float
    first: int  # index of the step that gave the first token

    @property
    def ttft(self) -> float:
        return self.stamps[0]

    @property
    def stages(self) -> dict[str, float]:
        """How long each of `STAGES` took; together the time from sending to the last token."""
        begin, end = self.steps[0][0], self.steps[self.first][1]
        later = self.steps[self.first + 1:]
        computing = sum(t1 - t0 for t0, t1, _ in later)
        last = self.steps[-1][1]
        taken = (self.arrival, begin - self.arrival, end - begin, computing, last - end - computing, self.stamps[-1] - last)
        return dict(zip(STAGES, taken, strict=True))

    @property
    def first_stages(self) -> dict[str, float]:
        """The same for the first token: together the TTFT."""
        begin, end = self.steps[0][0], self.steps[self.first][1]
        return {"to the engine": self.arrival, "queue": begin - self.arrival, "prefill": end - begin, "to the client": self.stamps[0] - end}


def anatomy(run: Run, sent: float, stamps: Sequence[float]) -> Anatomy:
    """Of the first request that reached the engine of `run` after `sent`. `sent` and `stamps` are `perf_counter` seconds of this host.

    Raises ValueError when the run holds no such request, or not all of it.
    """
    origin = run.header.clock_origin / 1e9
    steps = [event for event in run.events if isinstance(event, Step)]
    came = min(((a.t, name, a.prompt) for e in steps for name, a in e.arrived.items() if a.t >= sent - origin), default=None)
    if came is None:
        raise ValueError("no request reached the engine after it was sent: is this the run file of the server that was asked?")
    t, name, prompt = came
    own = [e for e in steps if name in e.scheduled]
    first = next((i for i, e in enumerate(own) if e.sampled.get(name)), None)
    if first is None or not stamps:
        raise ValueError("the request has no token yet")
    spans = [(e.t - e.ms / 1e3 + origin - sent, e.t + origin - sent, e.scheduled[name]) for e in own]
    outputs = sum(len(e.sampled.get(name, ())) for e in own)
    return Anatomy(prompt, outputs, spans, [stamp - sent for stamp in stamps], t + origin - sent, first)


class AnatomyStill(Picture):
    """Three rows on one time axis (the engine's steps, the client's tokens, the stages), and the stages in numbers."""

    def __init__(self, request: Anatomy, run: Run, theme: str = "light"):
        stages = request.stages
        shown = badge(run.header)
        said = ", ".join(f"{name} {spoken(seconds)}" for name, seconds in stages.items())
        alt = (f"One request, {shown[0]}, {shown[1]}: {request.prompt} prompt tokens, {request.outputs} tokens back, "
               f"TTFT {spoken(request.ttft)}, whole answer {spoken(request.stamps[-1])}: {said}.")
        super().__init__(322, alt, theme)
        pen = self.pen
        banner(pen, "One request", [(f"{request.prompt} prompt tokens, {request.outputs} tokens back", {})], shown)
        end = max(request.stamps[-1], request.steps[-1][1])

        def at(t: float) -> float:
            return X0 + (X1 - X0) * t / end

        _engine(pen, request, at)
        _client(pen, request, at)
        _bar(pen, "first token", request.first_stages, at, 178)
        _bar(pen, "whole answer", stages, at, 202)
        _numbers(pen, stages, 244)


def _engine(pen: Pen, request: Anatomy, at) -> None:
    c = pen.colours
    pen.text("engine's steps", EDGE, 84, fill=c["ink2"])
    for i, (begin, finish, tokens) in enumerate(request.steps):
        phase = "prefill" if i <= request.first else "decode"
        top, height = (66, 26) if phase == "prefill" else (72, 14)
        width = max(1.0, at(finish) - at(begin))
        pen.rect(at(begin), top, width, height, fill=c[phase], edge=c[f"{phase}Edge"], width=0.8)
        if phase == "prefill" and width > 90:
            pen.text(f"{tokens} tokens", at(begin) + 8, top + 17, size=11.5, weight=600, fill="#1A1F26")
    _mark(pen, at(request.arrival), 66, 26, "arrival")


def _mark(pen: Pen, x: float, y: float, height: float, words: str) -> None:
    pen.rect(x - 0.75, y, 1.5, height, fill=pen.colours["ink2"])
    pen.text(words, x + 3, y - 5, size=10.5, fill=pen.colours["muted"])


def _client(pen: Pen, request: Anatomy, at) -> None:
    c, y = pen.colours, 126
    pen.text("client's tokens", EDGE, y + 4, fill=c["ink2"])
    pen.rect(X0, y - 0.5, X1 - X0, 1, fill=c["edge"])
    pen.rect(X0 - 1, y - 8, 2, 16, fill=c["ink"])
    pen.text("sent", X0 + 4, y - 8, size=10.5, fill=c["muted"])
    for i, stamp in enumerate(request.stamps):
        colour, edge, r = ("prefill", "prefillEdge", 5.0) if i == 0 else ("decode", "decodeEdge", 3.2)
        pen.circle(at(stamp), y, r, fill=c[colour], edge=c[edge])
    pen.text(f"TTFT {spoken(request.ttft)}", at(request.ttft), y + 20, size=11.5, weight=600, fill=c["prefillEdge"], align="center")
    if request.outputs > 2:
        tpot = (request.stamps[-1] - request.stamps[0]) / (request.outputs - 1)
        middle = (at(request.stamps[0]) + at(request.stamps[-1])) / 2
        pen.text(f"then a token each {spoken(tpot)}", middle, y + 20, size=11.5, weight=600, fill=c["decodeEdge"], align="center")


def _swatch(pen: Pen, name: str, x: float, y: float, w: float, h: float) -> None:
    """Colour and pattern of a stage."""
    c = pen.colours
    if name == "prefill":
        pen.rect(x, y, w, h, fill=c["prefill"], edge=c["prefillEdge"], width=0.8)
    elif name == "decode steps":
        pen.rect(x, y, w, h, fill=c["decode"], edge=c["decodeEdge"], width=0.8)
    elif name == "between steps":
        pen.hatches([(x, y, w, h)], c["edge"])
        pen.rect(x, y, w, h, edge=c["edge"], width=0.8)
    elif name == "queue":
        pen.rect(x, y, w, h, fill=c["panel"], edge=c["edge"], width=0.8, dash=(2, 2))
    else:
        pen.rect(x, y, w, h, fill=c["bar"])


def _bar(pen: Pen, label: str, stages: dict[str, float], at, y: float) -> None:
    pen.text(label, EDGE, y + 11, fill=pen.colours["ink2"])
    t = 0.0
    for name, seconds in stages.items():
        if seconds > 0:
            _swatch(pen, name, at(t), y, at(t + seconds) - at(t), 15)
        t += seconds


def _numbers(pen: Pen, stages: dict[str, float], y: float) -> None:
    c, total, room = pen.colours, sum(stages.values()), (WIDTH - 2 * EDGE) / len(stages)
    for i, (name, seconds) in enumerate(stages.items()):
        x = EDGE + i * room
        _swatch(pen, name, x, y, 14, 14)
        pen.text(name, x + 22, y + 11, weight=600)
        share = percent(max(0.0, seconds) / total)
        pen.runs([(spoken(seconds), {"size": 16, "weight": 600}), (f"  {share}", {"fill": c["ink2"]})], x + 22, y + 33)
        pen.text(MEANING[name], x + 22, y + 52, size=10.5, fill=c["muted"])

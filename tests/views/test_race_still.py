from __future__ import annotations

import io
from itertools import combinations

import pytest
from PIL import Image

from labkit.bench.traces import record
from labkit.trace import Run
from labkit.views import BatchTimeline, RaceView, WasteLedger
from labkit.views.measures import median
from labkit.views.words import duration, percent, spoken, thousands
from tests.views.races import RULES, chunked, race


def texts(figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def of_race(view=RaceView, runs=None):
    runs = runs or race()
    made = view(list(runs), RULES)
    made.show(runs)
    return made


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("t", [None, 0.2, 0.64])
def test_a_race_says_what_each_policy_came_to(t, theme):
    view = of_race()
    view.seek(9.0 if t is None else t)
    found = texts(view.still(theme=theme))
    for name, m in view.measures.items():
        assert name in found and RULES[name] in found
        for values in (m.ttft, m.tpot):
            number, unit = duration(median(values)) if values else ("–", "")
            assert number in found and f" {unit}" in found
        assert thousands(m.throughput) in found and percent(m.padding).split()[0] in found
    if t is None:
        assert {f"all done {spoken(m.makespan)}" for m in view.measures.values()} < set(found)
    else:
        assert f"{1000 * t:.0f} ms" in found
    assert all(found.count(letter) == 3 for letter in "ABCDEFGHIJ")


def test_a_ledger_says_where_memory_and_time_went():
    view = of_race(WasteLedger)
    found = texts(view.still())
    for m in view.measures.values():
        total = sum(m.seconds.values())
        for share in [*m.mean.values(), *(seconds / total for seconds in m.seconds.values())]:
            assert percent(share) in found
    assert found.count("recompute") == 3 and found.count("reserved") == 3


@pytest.mark.parametrize("kind", ["race", "ledger", "six", "crowd", "one", "empty", "long"])
def test_no_two_texts_touch_and_none_leaves_the_picture(kind):
    runs = race()
    if kind == "six":
        runs |= {f"{name} again": run for name, run in race().items()}
    elif kind == "crowd":
        load = [(20 * i, 40 + 10 * (i % 7), 10 + i % 20) for i in range(40)]
        runs = {"one": chunked(load), "two": chunked(load, seqs=4), "three": chunked(load, blocks=60)}
    if kind in ("one", "long", "empty"):
        load = [(300 * i, 40 + 10 * (i % 7), 30 + i % 20) for i in range(120)]
        run = chunked(load) if kind == "long" else record(4, rate=0.5, steps=200)
        run = Run(run.header, []) if kind == "empty" else run
        view = BatchTimeline(run.header)
        view.show(run)
    else:
        view = of_race(WasteLedger if kind == "ledger" else RaceView, runs)
    figure = view.still()
    figure.canvas.draw()
    box = figure.bbox
    extents = [(text.get_text(), text.get_window_extent()) for text in figure.axes[0].texts if text.get_text().strip()]
    for words, e in extents:
        assert e.x0 >= -1 and e.x1 <= box.x1 + 1 and e.y0 >= -1 and e.y1 <= box.y1 + 1, words
    for (a, p), (b, q) in combinations(extents, 2):
        slack = 3 if b.startswith(" ") else 1  # pixels; the blank of one run of text is in its second part
        apart = p.x1 <= q.x0 + slack or q.x1 <= p.x0 + 1 or p.y1 <= q.y0 + 3 or q.y1 <= p.y0 + 3
        assert apart, f"{a!r} touches {b!r}"


def test_a_still_is_a_picture_with_its_alt_text_inside():
    for view in (of_race(), of_race(WasteLedger)):
        figure = view.still()
        image = Image.open(io.BytesIO(figure.png()))
        assert image.size[0] == 2200 and image.text["Description"] == figure.alt
        assert len(image.convert("RGB").getcolors(maxcolors=1 << 20)) > 30
        data, metadata = figure._repr_mimebundle_()
        assert data["text/plain"] == figure.alt == metadata["image/png"]["alt"]
    assert "static: 10 of 10 finished, median TTFT 572 ms, median TPOT 8.1 ms" in of_race().still().alt


def test_requests_that_failed_and_steps_that_left_one_out_are_in_the_legend():
    run = record(4, rate=0.5, steps=200)
    view = BatchTimeline(run.header)
    view.show(run)
    assert "failed" in texts(view.still()) and "in no step" not in texts(view.still())
    assert "failed" not in texts(of_race().still())


def test_an_unknown_theme_is_refused():
    with pytest.raises(ValueError, match="light or dark"):
        of_race().still(theme="sepia")

from __future__ import annotations

import io

import pytest
from PIL import Image

from labkit.bench.traces import record
from labkit.views import watch
from labkit.views.words import thousands

LEGEND = (("used", "used"), ("tail", "tail, part filled"), ("shared", "shared"), ("cached", "cached, evictable"), ("free", "free"))


def texts(figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


@pytest.mark.parametrize("step", [1, 25, 60, 119])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_still_says_the_numbers_that_the_pool_holds(step, theme):
    run = record(21, rate=0.5)
    state = run.state_at(step)
    found = texts(watch(run).still(step, theme=theme))
    counts, ledger = state.counts(), state.ledger()
    for name, words in LEGEND:
        at = found.index(f" {words}")
        assert found[at - 1] == thousands(counts[name])
    shown = found[found.index(" KV use") - 1]
    assert abs(float(shown.removesuffix(" %")) - 100 * state.usage) <= 0.5
    if ledger["tail"]:
        assert any(text.startswith(f"empty tail slots {ledger['tail']} ·") for text in found)
    assert f"step {step}" in found
    for request in state.requests.values():
        if request.table:
            assert request.letter in found


@pytest.mark.parametrize("blocks", [24, 400])  # cells with letters, and pixels
def test_a_still_of_a_pool_that_has_grown_says_from_where_and_draws_the_line(blocks):
    run = record(21, rate=0.5, blocks=blocks, pools={60: 4 * blocks})
    before, after = watch(run).still(50), watch(run).still(110)
    grown = f"{blocks} → {thousands(4 * blocks)} blocks"
    assert f"{blocks} blocks × 4 tokens" in texts(before) and f"{grown} × 4 tokens" in texts(after)
    assert grown in texts(before) and grown in texts(after), "the run's own axis tells it, wherever it is looked at"
    behind = f"Behind the line: {thousands(3 * blocks)} blocks of bytes that quantizing freed."
    assert any(behind in text for text in texts(after)) and not any("Behind the line" in text for text in texts(before))


def test_a_still_shows_the_block_table_of_the_selected_request_from_logical_to_physical():
    run = record(21, rate=0.5)
    state = run.state_at(60)
    chosen = max((r for r in state.requests.values() if r.table), key=lambda r: len(r.table))
    found = texts(watch(run, select=chosen.letter).still(60))
    assert len(chosen.table) <= 11
    for block in chosen.table:
        assert f"→ {block}" in found


def test_a_still_is_a_picture_with_its_alt_text_inside():
    figure = watch(record(3)).still()
    image = Image.open(io.BytesIO(figure.png()))
    assert image.size[0] == 2200
    assert image.text["Description"] == figure.alt
    data, metadata = figure._repr_mimebundle_()
    assert data["image/png"].startswith(b"\x89PNG") and metadata["image/png"]["alt"] == figure.alt
    assert len(image.convert("RGB").getcolors(maxcolors=1 << 20)) > 30


@pytest.mark.parametrize("blocks", [1, 7, 64, 192, 1000, 5000])
def test_a_still_has_room_for_every_pool(blocks):
    figure = watch(record(2, blocks=max(blocks, 12) if blocks < 12 else blocks, steps=20)).still()
    width, height = figure.get_size_inches()
    assert width == 11 and 5 < height < 12


def test_nothing_in_a_still_leaves_the_picture():
    figure = watch(record(21, rate=0.5)).still()
    figure.canvas.draw()
    box = figure.bbox
    for text in figure.axes[0].texts:
        extent = text.get_window_extent()
        assert extent.x0 >= -1 and extent.x1 <= box.x1 + 1 and extent.y0 >= -1 and extent.y1 <= box.y1 + 1, text.get_text()


def test_an_empty_pool_says_that_nothing_has_come_yet():
    run = record(1)
    run.events.clear()
    assert "nothing yet: send a request" in texts(watch(run).still())


def test_an_unknown_theme_is_refused():
    with pytest.raises(ValueError, match="light or dark"):
        watch(record(1)).still(theme="sepia")

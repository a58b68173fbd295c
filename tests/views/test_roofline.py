"""The roofline as a picture."""
import pytest

from labkit.models.shapes import shapes
from labkit.planning import Ceilings, Rate, bound, work
from labkit.views.roofline import Point, RooflineStill

SHAPE = shapes()["50M"]
FROM_MEMORY, FROM_CACHE = Rate(14e9, 9e9), Rate(70e9, 40e9)
MACHINE = Ceilings("cpu", 1, 20_000_000, FROM_MEMORY, FROM_MEMORY, FROM_CACHE, FROM_CACHE, {"float32": Rate(100e9, 90e9)})


def points() -> list[Point]:
    steps = [("decode", str(n), work(SHAPE, [(24, 1)] * n)) for n in (1, 4, 32)] + [("prefill", "256", work(SHAPE, [(0, 256)]))]
    return [Point(phase, label, step, 2 * bound(step, MACHINE).seconds) for phase, label, step in steps]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_is_a_picture_that_says_its_numbers(theme):
    still = RooflineStill(MACHINE, points(), "the 50M shape", ("live", "glass box"), theme=theme)
    assert still.png().startswith(b"\x89PNG")
    for said in ("live, glass box", "14 GB/s from memory", "70 GB/s from the cache", "decode 1:", "prefill 256: 50 GFLOP/s", "MFU 50 %"):
        assert said in still.alt


def test_every_mark_stands_under_the_roof_and_inside_the_picture():
    still = RooflineStill(MACHINE, points(), "the 50M shape", ("stand-in", "made up"))
    width, height = still.axes[0].get_xlim()[1], still.axes[0].get_ylim()[0]
    for text in still.axes[0].texts:
        x, y = text.get_position()
        assert 0 <= x <= width and 0 <= y <= height, text.get_text()

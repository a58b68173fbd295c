"""One request taken apart: its stages add up, belong to the right request, and are said in the picture's words."""
import pytest

from labkit.trace import Arrival, Header, Run, Step
from labkit.views.anatomy import AnatomyStill, anatomy

ORIGIN = 5.0  # seconds on the host's clock at which the run's clock began


def run() -> Run:
    """Two requests; the second arrives at 1.010 s and is computed in two chunks and three decodes of 4 ms, 1 ms apart."""
    header = Header("glassbox", "live", {"labkit": "0.1.0"}, "tiny", {"block_size": 16, "num_blocks": 96, "null_blocks": 0}, {},
                    clock_origin=int(ORIGIN * 1e9))
    events = [Step(1, 0.5, 10, arrived={"old": Arrival(5, 1, 0.4)}, scheduled={"old": 5}, sampled={"old": [1]}, finished={"old": "length"})]
    events.append(Step(2, 1.040, 20, arrived={"new": Arrival(60, 4, 1.010)}, scheduled={"new": 40}))
    events.append(Step(3, 1.061, 20, scheduled={"new": 20}, sampled={"new": [7]}))
    for n in range(3):
        events.append(Step(4 + n, 1.066 + 0.005 * n, 4, scheduled={"new": 1}, sampled={"new": [7]}))
    return Run(header, events)


STAMPS = [ORIGIN + t for t in (1.063, 1.068, 1.073, 1.079)]


def test_stages_follow_one_another_and_add_up_to_the_whole_answer():
    found = anatomy(run(), ORIGIN + 1.0, STAMPS)
    expected = {"to the engine": 10, "queue": 10, "prefill": 41, "decode steps": 12, "between steps": 3, "to the client": 3}
    assert {name: pytest.approx(ms / 1e3, abs=1e-6) for name, ms in expected.items()} == found.stages
    assert sum(found.stages.values()) == pytest.approx(0.079)
    assert sum(found.first_stages.values()) == pytest.approx(found.ttft) == pytest.approx(0.063)
    assert (found.prompt, found.outputs) == (60, 4)


def test_a_request_that_never_reached_the_engine_is_an_error_in_words():
    with pytest.raises(ValueError, match="no request reached the engine"):
        anatomy(run(), ORIGIN + 2.0, STAMPS)
    with pytest.raises(ValueError, match="no token yet"):
        anatomy(Run(run().header, run().events[:2]), ORIGIN + 1.0, STAMPS)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_picture_says_its_numbers(theme):
    still = AnatomyStill(anatomy(run(), ORIGIN + 1.0, STAMPS), run(), theme)
    assert still.png().startswith(b"\x89PNG")
    for said in ("live, glass box", "60 prompt tokens, 4 tokens back", "TTFT 63.0 ms", "prefill 41.0 ms", "decode steps 12.0 ms"):
        assert said in still.alt

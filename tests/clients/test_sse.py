from hypothesis import given
from hypothesis import strategies as st

from labkit.clients.sse import EventParser

lines = st.binary(max_size=12).filter(lambda line: b"\r" not in line and b"\n" not in line)


@given(events=st.lists(st.lists(lines, min_size=1, max_size=3), max_size=6), newline=st.sampled_from([b"\n", b"\r\n", b"\r"]),
       cuts=st.lists(st.integers(0, 300), max_size=8))
def test_events_come_out_whole_however_the_stream_is_cut(events, newline, cuts):
    stream = b"".join(b"".join(b"data: " + line + newline for line in event) + newline for event in events) + b": end" + newline
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    parser = EventParser()
    found = [data for left, right in zip(edges, edges[1:], strict=False) for data in parser.feed(stream[left:right])]
    assert found == [b"\n".join(event) for event in events]


def test_comments_other_fields_and_empty_events_are_no_events():
    assert EventParser().feed(b": ping\n\nevent: note\nid: 7\nretry: 10\n\n\ndata:x\n\ndata: y\ndata: z\n\n") == [b"x", b"y\nz"]


def test_an_event_without_its_empty_line_is_not_complete():
    parser = EventParser()
    assert parser.feed(b"data: half\n") == []
    assert parser.feed(b"\n") == [b"half"]


def test_only_one_space_after_the_colon_is_taken_off():
    assert EventParser().feed(b"data:  x\n\n") == [b" x"]

"""What an engine did, step by step: events, run files, live streams. Standard library only: it runs inside every server."""
from labkit.trace.events import Arrival, Event, Header, RequestState, Snapshot, Step, TraceError, decode, encode
from labkit.trace.recorder import Recorder
from labkit.trace.replay import as_replay, replay
from labkit.trace.runfile import Run, read, read_idle
from labkit.trace.state import BlockView, PoolState, RequestView, letter
from labkit.trace.stream import Subscription, subscribe
from labkit.trace.tape import Tape

__all__ = ["Arrival", "BlockView", "Event", "Header", "PoolState", "Recorder", "RequestState", "RequestView", "Run", "Snapshot", "Step",
           "Subscription", "Tape", "TraceError", "as_replay", "decode", "encode", "letter", "read", "read_idle", "replay", "subscribe"]

"""Live views of a running engine, and the still figures that they leave behind."""
from labkit.views.kv_map import KVMap
from labkit.views.look import look
from labkit.views.outlet import interactive
from labkit.views.race_view import BatchTimeline, RaceView
from labkit.views.waste_ledger import WasteLedger
from labkit.views.watch import watch

__all__ = ["BatchTimeline", "KVMap", "RaceView", "WasteLedger", "interactive", "look", "watch"]

"""Live views of a running engine, and the still figures that they leave behind."""
from labkit.views.kv_map import KVMap
from labkit.views.outlet import interactive
from labkit.views.watch import watch

__all__ = ["KVMap", "interactive", "watch"]

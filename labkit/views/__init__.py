"""Live views of a running engine, and the still figures that they leave behind."""
from labkit.views.kv_map import KVMap

__all__ = ["KVMap"]

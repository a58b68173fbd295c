"""What a model costs and what a machine can give: bytes and FLOPs of a step, measured ceilings, the roofline between them."""
from labkit.planning.ceilings import Ceilings, Rate, measure
from labkit.planning.roofline import Bound, Work, bound, mbu, mfu, work

__all__ = ["Bound", "Ceilings", "Rate", "Work", "bound", "mbu", "measure", "mfu", "work"]

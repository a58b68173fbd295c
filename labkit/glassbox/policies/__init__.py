"""Batching policies: each a `Scheduler` with a `schedule` of its own, in a file named after what it is."""

"""Quantization: one method a file on plain tensors, what each costs, and checkpoints that the real servers load."""

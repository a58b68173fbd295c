"""Loops that Numba makes machine code of, for float32 on a CPU.

`vectors` and `linear` are what lies between and in the matrix products of a decoder, `paged` is attention, `step` puts them together to a
whole step. torch's way to the same numbers stands where each is called.
"""

"""The text the shipped model learns from: a probabilistic grammar that knows the exact probability of everything it writes."""

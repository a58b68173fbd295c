"""Right and typical wrong answers to the exercises of notebook 01."""


def ttft(sent: float, stamps: list[float]) -> float:
    return stamps[0] - sent


def tpot(sent: float, stamps: list[float]) -> float:
    return (stamps[-1] - stamps[0]) / (len(stamps) - 1)


def step_bytes(weights: int, bytes_per_weight: int, kv_bytes_per_token: int, contexts: list[int]) -> int:
    return weights * bytes_per_weight + kv_bytes_per_token * sum(contexts)


def tokens_per_second(batch: int, step_bytes: int, bandwidth: float) -> float:
    return batch * bandwidth / step_bytes


WRONG = {
    "ttft": [
        (lambda sent, stamps: stamps[0], "subtract"),
        (lambda sent, stamps: stamps[-1] - sent, "last"),
        (lambda sent, stamps: stamps[1] - stamps[0], "after the first token"),
    ],
    "tpot": [
        (lambda sent, stamps: (stamps[-1] - sent) / len(stamps), "TTFT has counted that"),
        (lambda sent, stamps: (stamps[-1] - stamps[0]) / len(stamps), "gaps between them"),
        (lambda sent, stamps: (stamps[-1] - sent) / (len(stamps) - 1), "begins at the first token"),
        (lambda sent, stamps: stamps[-1] - stamps[0], "mean"),
    ],
    "step_bytes": [
        (lambda w, size, kv, contexts: sum(w * size + kv * context for context in contexts), "the whole batch"),
        (lambda w, size, kv, contexts: w * size, "keys and values"),
        (lambda w, size, kv, contexts: w + kv * sum(contexts), "bytes_per_weight"),
        (lambda w, size, kv, contexts: w * size + kv * len(contexts), "*all* its tokens"),
    ],
    "tokens_per_second": [
        (lambda batch, size, bandwidth: bandwidth / size, "steps per second"),
        (lambda batch, size, bandwidth: batch * size / bandwidth, "Upside down"),
        (lambda batch, size, bandwidth: size / bandwidth, "time of a step"),
    ],
}
PREDICTIONS = {
    "instead of 256": [("it stays about the same", "as much arithmetic"), ("it grows fourfold", "smaller part")],
}

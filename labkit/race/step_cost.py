"""What a step costs: milliseconds as a sum over what the step does, fitted to measured steps. The clock of races too long to wait for."""
from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from labkit.glassbox.plan import Plan

TERMS = ("step", "prefill_token", "prefill_pair", "decode_sequence", "context_token")
HELD_OUT = 4  # every so many-th measured step is kept out of the fit, to tell how good it is
ROUNDS = 3  # of fitting and leaving out what was disturbed
FEWEST = 60  # measured steps


def amounts(plan: Plan) -> tuple[float, float, float, float, float]:
    """How often each of `TERMS` stands in a plan, padding included.

    A prompt's chunk of n tokens after c earlier ones is n prefill tokens, each of which looks at all before it: n c + n (n + 1) / 2 pairs.
    A single token is a decode sequence with c + 1 tokens of context, whose keys and values are gathered.
    """
    tokens = pairs = sequences = context = 0
    for request in plan.requests + plan.held:
        n = plan.num_scheduled_tokens.get(request.request_id, 0) + plan.padding.get(request.request_id, 0)
        computed = request.num_computed_tokens
        if n > 1:
            tokens += n
            pairs += n * computed + n * (n + 1) // 2
        else:
            sequences += 1
            context += computed + 1
    return 1.0, tokens, pairs, sequences, context


@dataclass(slots=True, frozen=True)
class StepCost:
    """Milliseconds for each of `TERMS`. `fit` makes one from measured steps, `save` and `load` keep it.

    `steps` were measured; `error` is the median of |predicted - measured| / measured over those that the fit never saw, `error_p90` the
    90th percentile. `of` says what was measured.
    """

    step: float
    prefill_token: float
    prefill_pair: float
    decode_sequence: float
    context_token: float
    steps: int = 0
    error: float = 0.0
    error_p90: float = 0.0
    of: dict[str, Any] = field(default_factory=dict, compare=False)

    def seconds(self, plan: Plan) -> float:
        return self.predict(amounts(plan)) / 1e3

    def predict(self, amount: Sequence[float]) -> float:
        """Milliseconds."""
        a = amount
        return (self.step * a[0] + self.prefill_token * a[1] + self.prefill_pair * a[2] + self.decode_sequence * a[3]
                + self.context_token * a[4])

    @classmethod
    def fit(cls, measured: Sequence[tuple[Sequence[float], float]], of: dict[str, Any] | None = None) -> StepCost:
        """From (amounts, milliseconds) pairs, by least squares of the relative error with no term below zero. ValueError: too few steps."""
        import numpy as np

        if len(measured) < FEWEST:
            raise ValueError(f"{len(measured)} measured steps are too few to fit {len(TERMS)} terms: measure at least {FEWEST}")
        x, y = np.array([a for a, _ in measured], float), np.array([ms for _, ms in measured], float)
        unseen = np.arange(len(y)) % HELD_OUT == HELD_OUT - 1
        kept = ~unseen
        for _ in range(ROUNDS):
            terms = non_negative(x[kept] / y[kept, None], np.ones(kept.sum()))
            off = np.abs(x @ terms / y - 1)
            kept = ~unseen & (off <= 4 * np.median(off[~unseen]) + 0.02)  # a step that somebody else's process held up tells nothing
        errors = np.abs(x[unseen] @ terms - y[unseen]) / y[unseen]
        return cls(*(float(term) for term in terms), len(y), float(np.median(errors)), float(np.quantile(errors, 0.9)), of or {})

    def __str__(self) -> str:
        parts = [f"{time(getattr(self, name))} a {name.replace('_', ' ')}" for name in TERMS]
        fit = f"{self.steps} steps measured, off by {100 * self.error:.0f} % (median), {100 * self.error_p90:.0f} % (p90)"
        return f"{', '.join(parts)}; {fit if self.steps else 'made up, not measured'}"

    def save(self, path: str | Path) -> None:
        Path(path).write_text(json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> StepCost:
        """What `save` wrote. Raises ValueError for anything else."""
        try:
            values = json.loads(Path(path).read_text())
            return cls(**{f.name: values[f.name] for f in fields(cls)})
        except (KeyError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"{path} is not a saved step cost: {error}") from error


def time(ms: float) -> str:
    return f"{ms:.3g} ms" if ms >= 1 else f"{1e3 * ms:.3g} µs"


def non_negative(x, y):
    """Least squares with no coefficient below zero: the most negative one is left out until none is."""
    import numpy as np

    active = list(range(x.shape[1]))
    while True:
        found, *_ = np.linalg.lstsq(x[:, active], y, rcond=None)
        if found.min(initial=0.0) >= 0:
            out = np.zeros(x.shape[1])
            out[active] = found
            return out
        del active[int(found.argmin())]

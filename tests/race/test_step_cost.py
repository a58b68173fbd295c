"""The step-cost clock: what a plan amounts to, counted token by token; fits that find the terms that made the times."""
import random

import pytest

from labkit.glassbox.plan import Plan
from labkit.glassbox.request import Request
from labkit.glassbox.sampling_params import SamplingParams
from labkit.race import StepCost
from labkit.race.step_cost import TERMS, amounts


def request(name: str, tokens: int, computed: int) -> Request:
    made = Request(name, list(range(tokens)), SamplingParams())
    made.num_computed_tokens = computed
    return made


def test_amounts_are_those_counted_token_by_token():
    plan = Plan()
    chunk, decode, padded, held = request("a", 40, 10), request("b", 31, 30), request("c", 5, 0), request("d", 9, 9)
    for one, tokens in ((chunk, 20), (decode, 1), (padded, 5)):
        plan.add(one, tokens, [])
    plan.pad(padded, 7)
    plan.held.append(held)
    plan.padding["d"] = 1
    looked_at = [position + 1 for position in range(10, 30)] + [position + 1 for position in range(12)]
    assert amounts(plan) == (1, 20 + 12, sum(looked_at), 2, 31 + 10)


def measured(n: int, terms: tuple, noise: float = 0.0, seed: int = 0) -> list:
    rng = random.Random(seed)
    pairs = []
    for _ in range(n):
        amount = (1, rng.choice([0, 0, rng.randrange(2, 500)]), rng.randrange(1, 50_000), rng.randrange(17), rng.randrange(1, 5000))
        ms = sum(term * number for term, number in zip(terms, amount, strict=True))
        pairs.append((amount, ms * (1 + noise * rng.uniform(-1, 1))))
    return pairs


def test_a_fit_finds_the_terms_that_made_the_times():
    terms = (2.5, 0.08, 2e-4, 0.15, 6e-4)
    found = StepCost.fit(measured(200, terms, noise=0.05))
    assert [getattr(found, name) for name in TERMS] == pytest.approx(terms, rel=0.15)
    assert found.steps == 200 and found.error < 0.05 < 0.2 > found.error_p90


def test_steps_that_something_else_held_up_do_not_move_the_fit():
    terms = (2.5, 0.08, 2e-4, 0.15, 6e-4)
    disturbed = [(amount, ms * (10 if i % 10 == 0 else 1)) for i, (amount, ms) in enumerate(measured(300, terms, noise=0.02))]
    assert StepCost.fit(disturbed).step == pytest.approx(2.5, rel=0.1)


def test_no_term_is_below_zero_whatever_was_measured():
    found = StepCost.fit([((1, n, n * n, 0, 0), 5 - 0.001 * n) for n in range(2, 90)])
    assert min(getattr(found, name) for name in TERMS) >= 0


def test_too_few_steps_are_no_fit():
    with pytest.raises(ValueError, match="59 measured steps are too few"):
        StepCost.fit(measured(59, (1, 1, 1, 1, 1)))


def test_a_step_cost_survives_its_file(tmp_path):
    found = StepCost.fit(measured(80, (2, 0.1, 1e-4, 0.1, 1e-4)), {"model": "tiny"})
    found.save(tmp_path / "cost.json")
    assert StepCost.load(tmp_path / "cost.json") == found
    (tmp_path / "other.json").write_text('{"step": 1}')
    with pytest.raises(ValueError, match="not a saved step cost"):
        StepCost.load(tmp_path / "other.json")

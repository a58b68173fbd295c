"""A step-cost clock with round numbers, and policies that break one law each."""
import pytest

from labkit.race import StepCost


@pytest.fixture
def cost() -> StepCost:
    return StepCost(step=2.0, prefill_token=0.1, prefill_pair=0.0, decode_sequence=0.1, context_token=0.0)

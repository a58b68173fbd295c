"""Dials: every turn is raced, the newest setting wins, and what cannot run is said."""
import pytest

from labkit.race.dials import Dials

POLICIES = {"static": "static", "chunked": "chunked"}


@pytest.fixture
def dials(cost):
    made = Dials(cost, POLICIES, requests=8)
    made.start()
    yield made
    made.close()


def test_turning_a_dial_races_the_new_setting(dials):
    dials.settle()
    assert dials.result.workload.parameters["rate"] == pytest.approx(20)
    dials.set(rate=100, output_tokens=(5, 6), max_num_batched_tokens=64)
    dials.settle()
    assert dials.result.workload.parameters["rate"] == pytest.approx(100) and dials.result.workload.parameters["output_tokens"] == [5, 6]
    assert dials.result.runs["chunked"].header.configuration["max_num_batched_tokens"] == 64


def test_the_policies_are_a_dial_too(dials):
    dials.set(policies=("chunked",))
    dials.settle()
    assert list(dials.result.runs) == ["chunked"]


def test_the_ranking_says_who_is_best(dials):
    dials.settle()
    assert "chunked" in dials.ranking and "●" in dials.ranking and "stand-in" not in dials.ranking


def test_a_setting_that_cannot_run_is_said_and_the_next_one_runs(dials):
    dials.set(num_blocks=16)
    dials.settle()
    assert "raise num_blocks" in dials.ranking
    dials.set(num_blocks=200)
    dials.settle()
    assert "raise num_blocks" not in dials.ranking and dials.result.complete


def test_a_dial_that_there_is_not_is_refused_by_name(dials):
    with pytest.raises(ValueError, match="no dial 'speed'"):
        dials.set(speed=3)

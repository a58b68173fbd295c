"""Workloads: the same for everybody, drawn by a seed, refused with the arithmetic where they could never be served."""
import pytest

from labkit.load import arrivals
from labkit.race import Item, Workload, WorkloadError


def test_the_same_seed_makes_the_same_requests_and_a_longer_workload_begins_with_the_shorter():
    short, long = Workload.make(5, 10, seed=3), Workload.make(9, 10, seed=3)
    assert long.items[:5] == short.items and short == Workload.make(5, 10, seed=3)
    assert short.hash == Workload.make(5, 10, seed=3).hash != Workload.make(5, 10, seed=4).hash


def test_lengths_arrivals_and_priorities_are_as_asked():
    workload = Workload.make(200, 50, prompt_tokens=(5, 9), output_tokens=7, priorities=[1, 2], seed=1)
    assert {len(item.prompt) for item in workload.items} == set(range(5, 10))
    assert {item.max_tokens for item in workload.items} == {7} and {item.priority for item in workload.items} == {1, 2}
    times = [item.arrival for item in workload.items]
    assert times == sorted(times) and 200 / 50 * 0.8 < times[-1] < 200 / 50 * 1.25


def test_without_a_rate_all_come_at_once():
    assert {item.arrival for item in Workload.make(4).items} == {0.0}


def test_prompts_begin_with_as_much_in_common_as_asked():
    first, second = (item.prompt for item in Workload.make(2, prompt_tokens=100, prefix_overlap=0.4).items)
    assert first[:40] == second[:40] and first[40:] != second[40:]


def test_any_open_schedule_will_do_and_a_closed_loop_will_not():
    assert [item.arrival for item in Workload.make(2, arrivals=[0.5, 2.0]).items] == [0.5, 2.0]
    assert [item.arrival for item in Workload.make(2, arrivals=arrivals.constant(2, 2)).items] == [0.5, 1.0]
    with pytest.raises(ValueError, match="closed loop"):
        Workload.make(2, arrivals=arrivals.closed(2))
    with pytest.raises(ValueError, match="3 arrivals for 2 requests"):
        Workload.make(2, arrivals=[0, 1, 2])
    with pytest.raises(ValueError, match="either"):
        Workload.make(2, 5.0, arrivals=[0, 1])


@pytest.mark.parametrize(("item", "blocks", "said"), [
    (Item(0, tuple(range(100)), 61), 10, "161 tokens, which are 11 blocks of 16, and the pool has 10.*raise num_blocks to 11"),
    (Item(0, tuple(range(100)), 1000), 1000, "1100 tokens, and the model's context holds 512"),
    (Item(0, (), 5), 10, "at least one of each"),
])
def test_what_could_never_be_served_is_refused_with_the_arithmetic(item, blocks, said):
    with pytest.raises(WorkloadError, match=said):
        Workload((Item(0, (1, 2), 3), item)).check(blocks, 16, 512)


def test_what_just_fits_is_not_refused():
    Workload((Item(0, tuple(range(100)), 60),)).check(10, 16, 160)

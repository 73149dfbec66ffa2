"""Of which runs what they left may be removed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella.layout import RunKeys
from lamella.leftovers import (
    MARGIN_S,
    UNKNOWN,
    Execution,
    Leftovers,
    run_of,
    run_of_work,
    run_queues,
    state_of,
    totals,
)

TIMEOUT_S = 900.0
OVER = ("SUCCEEDED", "FAILED", "ABORTED", "TIMED_OUT")
TIMES = st.floats(0, 1e9)


@pytest.mark.parametrize("status", ["RUNNING", "PENDING_REDRIVE"])
def test_nothing_of_a_run_that_goes_on_is_ever_removed(status: str) -> None:
    assert state_of(Execution(status), Leftovers(), 1e12, TIMEOUT_S) == "going"


@given(status=st.sampled_from(OVER), ended_s=TIMES, waited_s=st.floats(0, 5000), changed_s=TIMES)
def test_a_run_is_dead_once_no_worker_of_it_can_still_be_there(
    status: str, ended_s: float, waited_s: float, changed_s: float
) -> None:
    now_s = ended_s + waited_s
    state = state_of(Execution(status, ended_s), Leftovers(changed_s=changed_s), now_s, TIMEOUT_S)
    # A worker that was called as the execution ended has its whole time.
    assert state == ("dead" if now_s >= ended_s + TIMEOUT_S + MARGIN_S else "ending")


@given(changed=st.lists(TIMES, min_size=1), waited_s=st.floats(0, 5000))
def test_what_is_of_an_unknown_run_has_to_have_lain_as_long(changed: list[float], waited_s: float) -> None:
    left = Leftovers()
    for time_s in changed:
        left.touch(time_s)
    now_s = max(changed) + waited_s
    state = state_of(Execution(UNKNOWN), left, now_s, TIMEOUT_S)
    assert state == ("dead" if now_s >= max(changed) + TIMEOUT_S + MARGIN_S else "ending")


def test_only_what_workers_needed_is_work() -> None:
    keys = RunKeys("r", 2)
    assert {run_of_work(key) for key in (keys.task(0), keys.part(3), keys.queues, f"{keys.halo}0/1")} == {"r"}
    kept = (keys.plan, keys.summary, keys.predictions, keys.activations, keys.abort, keys.error(0))
    assert {run_of_work(key) for key in kept} == {None}
    assert {run_of(key) for key in kept} == {"r"}
    assert run_of("models/r/work/1/x") is run_of_work("models/runs/r/work/1/x") is None


def test_queues_of_other_stacks_are_none_of_ours() -> None:
    ours = ["https://sqs/1/a-run-0123456789abcdef-1-0", "https://sqs/1/a-run-0123456789abcdef-2-17"]
    others = [
        "https://sqs/1/a-run-slot-0-0",  # of a stack "a-run"
        "https://sqs/1/a-run-run-0123456789abcdef-1-0",
        "https://sqs/1/b-a-run-0123456789abcdef-1-0",
        "https://sqs/1/a-run-0123456789abcdef-1-0-dead",
        "https://sqs/1/a-run-0123456789ABCDEF-1-0",
    ]
    assert run_queues([*others, *ours], "https://sqs/1/a-run-") == ours
    assert run_queues([*others, *ours], "a-run-") == ours


def test_totals() -> None:
    some = Leftovers(
        queues=["q"], slots=2, units=5, in_line=1, objects=3, object_bytes=4, uploads=[("k", "u")]
    )
    assert totals([some, some, Leftovers()]) == {
        "runs": 3,
        "queues": 2,
        "slots": 4,
        "units": 10,
        "in_line": 2,
        "objects": 6,
        "object_bytes": 8,
        "uploads": 2,
    }

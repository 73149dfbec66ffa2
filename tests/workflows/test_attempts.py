"""The machine, run: workers that fail are launched once more where Recover plans it, and only then."""

from __future__ import annotations

from typing import Any

import pytest

from tests.workflows.stub_project import Execution, Machine
from workflows.state_machine.inference import INLINE_MAP_CONCURRENCY

FAILS = {"raise": ["CloudError", "busy"]}
AGAIN = {"answer": {"again": True}}
WORKERS = INLINE_MAP_CONCURRENCY + 2


def launched(done: Execution) -> list[tuple[int, int]]:
    """Attempt and number of every worker that was started."""
    events = [call.event for call in done.calls if call.state.startswith("worker")]
    return sorted((event["attempt"], event["worker"]) for event in events)


def test_recover_is_told_of_the_attempt_and_the_error_and_nothing_else(machine: Machine) -> None:
    arn = machine.start({"worker 1": FAILS})
    done = machine.wait(arn)

    (call,) = done.called("recover")
    assert call.function == done.called("plan")[0].function
    assert set(call.event) == {"execution", "run", "attempt", "error"}
    assert (call.event["execution"], call.event["run"], call.event["attempt"]) == (arn, done.run, 1)
    assert call.event["error"]["Error"] == "CloudError"
    assert "busy" in call.event["error"]["Cause"]


def test_where_recover_plans_none_finish_is_told_the_first_error(machine: Machine) -> None:
    done = machine.run({"worker 1": FAILS})

    assert done.status == "FAILED"
    assert done.states() == ["Plan", "Launch", "Workers", "Recover", "Again", "FinishFailed", "Failed"]
    assert done.called("finish FAILED")[0].event["error"] == done.called("recover")[0].event["error"]
    assert {attempt for attempt, _ in launched(done)} == {1}


def test_a_second_attempt_goes_on_as_a_first_one_does(machine: Machine) -> None:
    done = machine.run({"recover": AGAIN, "worker 1 of attempt 1": FAILS})

    assert done.status == "SUCCEEDED"
    again = ["Recover", "Again", "Launch", "Workers"]
    assert done.states() == ["Plan", "Launch", "Workers", *again, "Collect", "Finish"]
    assert [worker for attempt, worker in launched(done) if attempt == 2] == [0, 1, 2]
    assert done.called("collect")[0].event == {"run": done.run, "attempt": 2}
    assert machine.keys(f"runs/{done.run}/errors/") == [f"runs/{done.run}/errors/1/1.json"]


def test_errors_of_both_attempts_are_kept_apart(machine: Machine) -> None:
    scripted = {"recover of attempt 1": AGAIN, "worker 1 of attempt 1": FAILS, "worker 1 of attempt 2": FAILS}
    done = machine.run(scripted)

    assert done.status == "FAILED"
    assert [call.event["attempt"] for call in done.called("recover")] == [1, 2]
    assert done.states().count("Workers") == 2
    keys = machine.keys(f"runs/{done.run}/errors/")
    assert keys == [f"runs/{done.run}/errors/{attempt}/1.json" for attempt in (1, 2)]
    assert [machine.read(key)["attempt"] for key in keys] == [1, 2]


def test_a_worker_that_dies_is_told_by_its_last_start(machine: Machine) -> None:
    done = machine.run({"recover": AGAIN, "worker 1 of attempt 1": {"exit": 3}})

    assert done.status == "SUCCEEDED"
    assert done.called("recover")[0].event["error"]["Error"] == "Runtime.ExitError"


def test_a_gang_of_the_distributed_map_is_launched_again_by_it(machine: Machine) -> None:
    script: dict[str, Any] = {
        "plan": {"answer": {"gang": WORKERS}},
        "recover": {"answer": {"again": True, "gang": WORKERS}},
        "worker 1 of attempt 1": FAILS,
    }
    done = machine.run(script)

    assert done.status == "SUCCEEDED"
    assert done.states().count("DistributedWorkers") == 2
    assert [worker for attempt, worker in launched(done) if attempt == 2] == list(range(WORKERS))


@pytest.mark.parametrize("state", ["plan", "collect"])
def test_only_workers_are_launched_again(machine: Machine, state: str) -> None:
    done = machine.run({state: FAILS, "recover": AGAIN})

    assert done.status == "FAILED"
    assert done.called("recover") == []


def test_a_recover_that_fails_reaches_finish(machine: Machine) -> None:
    done = machine.run({"worker 1": FAILS, "recover": {"raise": ["RunAborted", "was stopped"]}})

    assert done.states()[-3:] == ["Recover", "FinishFailed", "Failed"]
    assert done.called("finish FAILED")[0].event["error"]["Error"] == "RunAborted"

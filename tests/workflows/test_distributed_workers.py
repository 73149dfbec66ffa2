"""The machine, run with gangs that an inline Map would not hold."""

from __future__ import annotations

from typing import Any

from tests.workflows.stub_project import Machine, until
from workflows.state_machine.inference import INLINE_MAP_CONCURRENCY, LABEL, WORKER_RESTARTS

WORKERS = INLINE_MAP_CONCURRENCY + 4


def gang(workers: int, **script: Any) -> dict[str, Any]:
    """A script whose plan is for the Distributed Map."""
    return {"plan": {"answer": {"gang": workers}}, **script}


def workers_of(machine: Machine, execution: str) -> list[dict[str, Any]]:
    """The executions that a run's Distributed Map started."""
    (run,) = machine.stepfunctions.list_map_runs(executionArn=execution)["mapRuns"]
    found: list[dict[str, Any]] = machine.stepfunctions.list_executions(mapRunArn=run["mapRunArn"])[
        "executions"
    ]
    return found


def test_more_workers_than_an_inline_map_holds_all_run_at_once(machine: Machine) -> None:
    done = machine.run(gang(WORKERS, worker={"meet": WORKERS}))

    assert done.status == "SUCCEEDED"
    assert done.states() == ["Plan", "Launch", "DistributedWorkers", "Collect", "Finish"]
    events = [call.event for call in done.calls if call.state.startswith("worker")]
    assert sorted(events, key=lambda event: int(event["worker"])) == [
        {"run": done.run, "attempt": 1, "worker": worker} for worker in range(WORKERS)
    ]
    assert len(done.called("finish SUCCEEDED")) == len(done.called("collect")) == 1


def test_a_failed_worker_leaves_its_error_and_ends_the_gang(machine: Machine) -> None:
    script = gang(3, worker={"sleep_s": 3}) | {"worker 1": {"raise": ["NonFiniteActivation", "layer 7: NaN"]}}
    arn = machine.start(script)
    done = machine.wait(arn)

    states = ["Plan", "Launch", "DistributedWorkers", "Recover", "Again", "FinishFailed", "Failed"]
    assert done.states() == states
    told = done.called("finish FAILED")[0].event["error"]["Error"]
    assert told == "States.ExceedToleratedFailureThreshold"
    assert machine.keys(f"runs/{done.run}/errors/") == [f"runs/{done.run}/errors/1/1.json"]
    written = machine.read(f"runs/{done.run}/errors/1/1.json")
    assert (written["worker"], written["error"]["Error"]) == (1, "NonFiniteActivation")
    ended = {each["executionArn"]: each["status"] for each in workers_of(machine, arn)}
    assert sorted(ended.values()) == ["ABORTED", "ABORTED", "FAILED"]
    assert ended[written["execution"]] == "FAILED"
    assert f"-inference/{LABEL}:" in written["execution"]


def test_a_worker_that_dies_is_started_again_as_its_own_execution_tells(machine: Machine) -> None:
    done = machine.run(gang(2) | {"worker 1": {"exit": 3}})

    starts = 1 + WORKER_RESTARTS
    assert len(done.called("worker 1")) == starts
    execution = machine.read(f"runs/{done.run}/errors/1/1.json")["execution"]
    events = machine.stepfunctions.get_execution_history(executionArn=execution)["events"]
    deaths = [
        event["taskFailedEventDetails"]["error"] for event in events if "taskFailedEventDetails" in event
    ]
    assert deaths == ["Runtime.ExitError"] * starts


def test_the_rule_tells_finish_of_the_run_and_not_of_each_worker(machine: Machine) -> None:
    arn = machine.start(gang(3, worker={"sleep_s": 3}))
    run = arn.rpartition(":")[2]
    until(lambda: sum(call.state.startswith("worker") for call in machine.calls(run)) == 3)

    machine.stepfunctions.stop_execution(executionArn=arn)

    until(lambda: any(call.state == "finish ABORTED" for call in machine.calls(run)))
    assert {each["status"] for each in workers_of(machine, arn)} == {"ABORTED"}
    assert [each for each in workers_of(machine, arn) if machine.keys(f"calls/{each['name']}/")] == []
    assert machine.wait(arn).status == "ABORTED"

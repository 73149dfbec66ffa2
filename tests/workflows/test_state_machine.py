"""The machine, run: which states it takes, what they are told, and what a run's failure comes to."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.workflows.stub_project import Machine, deployed, until
from workflows.embedded_cloud import EmbeddedCloud
from workflows.state_machine.inference import WORKER_RESTARTS

FINISHED_FAILED = ("WorkerError", "worker 1 failed: as Finish says")


def test_a_run_takes_each_state_once_and_its_output_is_what_finish_answers(machine: Machine) -> None:
    done = machine.run()

    assert done.status == "SUCCEEDED"
    assert done.states() == ["Plan", "Launch", "Workers", "Collect", "Finish"]
    assert done.output == {"status": "SUCCEEDED", "run_id": done.run}
    assert sorted(call.state for call in done.calls) == [
        "collect",
        "finish SUCCEEDED",
        "plan",
        "worker 0",
        "worker 1",
        "worker 2",
    ]


def test_each_function_is_told_what_its_event_says_and_nothing_else(machine: Machine) -> None:
    request = {"model": "s3://m/", "input": "s3://i", "workers": 3}

    arn = machine.start(request=request)
    done = machine.wait(arn)

    events = {call.state: call.event for call in done.calls}
    assert events["plan"] == {"execution": arn, "run": done.run, "request": request}
    assert events["worker 2"] == {"run": done.run, "attempt": 1, "worker": 2}
    assert events["collect"] == {"run": done.run, "attempt": 1}
    assert events["finish SUCCEEDED"] == {"execution": arn, "run": done.run, "status": "SUCCEEDED"}


def test_a_run_that_plan_has_wait_asks_again_until_it_has_its_turn(machine: Machine) -> None:
    done = machine.run({"plan": {"answer": {"looks": 2}}})

    assert done.status == "SUCCEEDED"
    told_to_wait = ["Plan", "Launch", "WaitForTurn"]
    assert done.states() == [*told_to_wait * 2, "Plan", "Launch", "Workers", "Collect", "Finish"]
    first, *again = [call.event for call in done.called("plan")]
    assert again == [first, first]
    entered = [event for event in done.history if "stateEnteredEventDetails" in event]
    waits = [number for number, event in enumerate(entered) if event["type"] == "WaitStateEntered"]
    for number in waits:
        waited = entered[number + 1]["timestamp"] - entered[number]["timestamp"]
        assert 0.9 < waited.total_seconds() < 30


def test_workers_run_the_function_that_plan_chose(machine: Machine) -> None:
    account = machine.outputs["TopicArn"].split(":")[4]
    large = f"arn:aws:lambda:us-east-1:{account}:function:{machine.outputs['Prefix']}-WorkerLarge"

    done = machine.run({"plan": {"answer": {"attempt": 7, "function": large, "workers": [4]}}})

    assert done.states(of_iterations=True).count("Worker") == 1
    (worker,) = done.called("worker 4")
    assert worker.function.endswith("-WorkerLarge")
    assert worker.event == {"run": done.run, "attempt": 7, "worker": 4}


def test_workers_run_at_the_same_time(machine: Machine) -> None:
    machine.run()  # environments are warm from here on

    started_s = time.monotonic()
    machine.run({f"worker {number}": {"sleep_s": 1.5} for number in range(3)})

    assert time.monotonic() - started_s < 3 * 1.5


def test_a_failed_worker_leaves_its_error_and_the_run_fails_as_finish_says(machine: Machine) -> None:
    done = machine.run({"worker 1": {"raise": ["NonFiniteActivation", "layer 7 produced NaN"]}})

    assert done.status == "FAILED"
    assert (done.error, done.cause) == FINISHED_FAILED
    assert done.states() == ["Plan", "Launch", "Workers", "Recover", "Again", "FinishFailed", "Failed"]
    assert machine.keys(f"runs/{done.run}/errors/") == [f"runs/{done.run}/errors/1/1.json"]
    written = machine.read(f"runs/{done.run}/errors/1/1.json")
    assert (written["worker"], written["attempt"]) == (1, 1)
    assert written["error"]["Error"] == "NonFiniteActivation"
    assert json.loads(written["error"]["Cause"])["errorMessage"] == "layer 7 produced NaN"
    assert written["failed_at"]


def test_finish_is_told_of_a_failed_worker(machine: Machine) -> None:
    done = machine.run({"worker 2": {"raise": ["MessageError", "bad bytes"]}})

    event = done.called("finish FAILED")[0].event
    assert event["run"] == done.run
    assert set(event) == {"execution", "run", "status", "error"}
    assert event["error"]["Error"] == "MessageError"
    assert event["error"]["Cause"].startswith("worker 2: ")
    assert "bad bytes" in event["error"]["Cause"]


def test_errors_of_the_code_are_not_retried(machine: Machine) -> None:
    done = machine.run({"worker 1": {"raise": ["ValueError", "no"]}})

    assert len(done.called("worker 1")) == 1


@pytest.mark.parametrize(
    ("state", "starts"),
    [("plan", 2), ("worker 1", 1 + WORKER_RESTARTS), ("collect", 2), ("finish SUCCEEDED", 2)],
)
def test_a_function_that_dies_is_started_again_a_few_times(machine: Machine, state: str, starts: int) -> None:
    done = machine.run({state: {"exit": 3}})

    assert done.status == "FAILED"
    assert len(done.called(state)) == starts
    assert done.called("finish FAILED")


@pytest.mark.parametrize("error", ["CloudError", "Superseded"])
def test_a_worker_that_failed_in_a_way_that_may_pass_is_started_again(machine: Machine, error: str) -> None:
    done = machine.run({"worker 1": {"raise": [error, "no answer"]}})

    assert done.status == "FAILED"
    assert len(done.called("worker 1")) == 1 + WORKER_RESTARTS


@pytest.mark.parametrize(
    ("state", "states"),
    [
        ("plan", ["Plan", "FinishFailed", "Failed"]),
        ("collect", ["Plan", "Launch", "Workers", "Collect", "FinishFailed", "Failed"]),
        ("finish SUCCEEDED", ["Plan", "Launch", "Workers", "Collect", "Finish", "FinishFailed", "Failed"]),
    ],
)
def test_whatever_fails_finish_is_told(machine: Machine, state: str, states: list[str]) -> None:
    done = machine.run({state: {"raise": ["PlanError", "more workers than rows"]}})

    assert done.status == "FAILED"
    assert done.states() == states
    assert (done.error, done.cause) == FINISHED_FAILED
    error = done.called("finish FAILED")[0].event["error"]
    assert error["Error"] == "PlanError"
    assert json.loads(error["Cause"])["errorMessage"] == "more workers than rows"


@pytest.mark.parametrize("request_", ["text", [1, 2], 3, {"error": "mine", "run": 5}])
def test_a_plan_that_refuses_any_input_reaches_finish(machine: Machine, request_: Any) -> None:
    done = machine.run({"plan": {"raise": ["InputError", "no"]}}, request=request_)

    event = done.called("finish FAILED")[0].event
    assert (event["run"], event["error"]["Error"]) == (done.run, "InputError")
    assert (done.error, done.cause) == FINISHED_FAILED


def test_a_finish_that_fails_as_well_says_so_with_the_first_error(machine: Machine) -> None:
    done = machine.run({"collect": {"raise": ["E1", "first"]}, "finish FAILED": {"raise": ["E2", "second"]}})

    assert done.states()[-2:] == ["FinishFailed", "NotReleased"]
    assert done.error == "NotReleased"
    assert done.cause is not None
    assert "first" in done.cause
    assert "second" in done.cause


def test_a_stopped_execution_reaches_finish_through_the_rule(machine: Machine) -> None:
    arn = machine.start({f"worker {number}": {"sleep_s": 3} for number in range(3)})
    run = arn.rpartition(":")[2]
    until(lambda: any(call.state.startswith("worker") for call in machine.calls(run)))

    machine.stepfunctions.stop_execution(executionArn=arn)

    until(lambda: any(call.state == "finish ABORTED" for call in machine.calls(run)))
    event = next(call.event for call in machine.calls(run) if call.state == "finish ABORTED")
    assert event == {"execution": arn, "run": run, "status": "ABORTED"}
    assert machine.wait(arn).status == "ABORTED"


def test_a_failed_execution_reaches_finish_through_the_rule_too(machine: Machine) -> None:
    done = machine.run({"collect": {"raise": ["ValueError", "no"]}})

    until(lambda: len([c for c in machine.calls(done.run) if c.state == "finish FAILED"]) == 2)
    events = [call.event for call in machine.calls(done.run) if call.state == "finish FAILED"]
    assert "error" in events[0]
    assert "error" not in events[1]


def test_an_invocation_that_lambda_turns_away_is_tried_again(tmp_path: Path) -> None:
    with EmbeddedCloud.start(concurrency=1) as cloud:
        machine = deployed(tmp_path, cloud)
        done = machine.run({f"worker {number}": {"sleep_s": 0.2} for number in range(3)})

    refused = [
        event["taskFailedEventDetails"]["error"]
        for event in done.history
        if "taskFailedEventDetails" in event
    ]
    assert done.status == "SUCCEEDED"
    assert set(refused) == {"Lambda.TooManyRequestsException"}

"""Which error a failed run shows."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lamella.failures import WorkerFailure, death_of, may_pass, message_of, parse_failure, root_failure


def written(error: str, message: str, failed_at: str = "") -> bytes:
    cause = json.dumps({"errorMessage": message, "errorType": error})
    body = {"worker": 0, "error": {"Error": error, "Cause": cause}, "failed_at": failed_at}
    return json.dumps(body).encode()


def test_a_workers_own_error_is_shown_before_those_that_follow_from_it() -> None:
    failures = [
        parse_failure(0, written("RunAborted", "ended")),
        parse_failure(5, written("DeadlineExceeded", "waited in vain for worker 6")),
        parse_failure(6, written("ZeroDivisionError", "division by zero")),
    ]
    assert root_failure(failures) == WorkerFailure(6, "ZeroDivisionError", "division by zero")
    assert root_failure(failures[:2]) == failures[0]
    assert root_failure([]) is None


def test_of_equals_the_earliest_is_shown() -> None:
    late, early = (
        parse_failure(w, written("ValueError", "bad", f"2026-01-01T00:00:0{9 - w}Z")) for w in (1, 2)
    )
    assert root_failure([late, early]) == early


def test_where_others_waited_in_vain_the_silent_worker_is_named() -> None:
    waited = parse_failure(3, written("DeadlineExceeded", "layer 40 waited in vain for worker 1"))
    root = root_failure([waited], silent={1})
    assert root == WorkerFailure(1, "NoAnswer", "worker 3, at layer 40 waited in vain for worker 1")
    assert root_failure([waited]) == waited


def test_a_cause_is_one_line_whatever_it_is() -> None:
    assert message_of('{"errorMessage": "two\\nlines"}') == "two lines"
    assert message_of("no json\nat all") == "no json at all"
    assert message_of("[1]") == "[1]"
    assert parse_failure(1, b"\xff not json").error == "Unknown"


def history(worker: int, error: str, attempt: int = 1) -> list[dict[str, Any]]:
    call = json.dumps({"FunctionName": "f", "Payload": {"run": "r", "attempt": attempt, "worker": worker}})
    return [
        {"id": worker * 10 + 1, "previousEventId": 0, "taskScheduledEventDetails": {"parameters": call}},
        {"id": worker * 10 + 2, "previousEventId": worker * 10 + 1, "type": "TaskStarted"},
        {
            "id": worker * 10 + 3,
            "previousEventId": worker * 10 + 2,
            "taskFailedEventDetails": {"error": error, "cause": '{"errorMessage": "signal: killed"}'},
        },
    ]


def test_where_a_worker_has_an_execution_of_its_own_its_error_says_which() -> None:
    body = {"worker": 3, "error": {"Error": "E", "Cause": "c"}, "execution": "arn:of/its:own"}
    assert parse_failure(3, json.dumps(body).encode()).execution == "arn:of/its:own"
    assert parse_failure(0, written("E", "c")).execution == ""


def test_how_a_worker_died_is_found_in_the_history() -> None:
    events = history(1, "RunAborted") + history(2, "Runtime.ExitError") + history(3, "Sandbox.Timedout")
    assert death_of(2, events) == WorkerFailure(2, "Runtime.ExitError", "signal: killed")
    assert death_of(3, events) == WorkerFailure(3, "Sandbox.Timedout", "signal: killed")
    assert death_of(1, events) is None
    assert death_of(4, events) is None


def test_how_a_worker_died_is_told_by_attempt() -> None:
    events = history(1, "Runtime.ExitError") + history(1, "Sandbox.Timedout", attempt=2)
    assert death_of(1, events[3:], attempt=2) == WorkerFailure(1, "Sandbox.Timedout", "signal: killed")
    assert death_of(1, events, 3) is None


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        *((name, True) for name in ("WorkerError", "MessageError", "CloudError", "DeadlineExceeded")),
        *((name, True) for name in ("NoAnswer", "Runtime.ExitError", "Sandbox.Timedout", "Lambda.Unknown")),
        *((name, False) for name in ("NonFiniteActivation", "ModelError", "BatchError", "PlanError")),
        *((name, False) for name in ("GangIncomplete", "Lambda.TooManyRequestsException", "LeaseError")),
        *((name, False) for name in ("RunAborted", "ZeroDivisionError", "Unknown", "")),
        ("States.ExceedToleratedFailureThreshold", False),
    ],
)
def test_only_errors_of_hosts_and_services_may_pass(error: str, passes: bool) -> None:
    assert may_pass(error) is passes

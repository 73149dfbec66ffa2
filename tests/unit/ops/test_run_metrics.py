"""What CloudWatch is told of a run."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lamella.failures import repeated_attempts
from lamella.run_metrics import METRICS, count_run

GOOD = {
    "run_id": "r1",
    "status": "SUCCEEDED",
    "strategy": "rows",
    "attempts": 1,
    "seconds": {"total": 4.5},
    "cost_usd": {"lambda": 0.25, "total": 0.5},
}
REFUSED = {"run_id": "r2", "status": "FAILED", "error": "ModelError", "cost_usd": {"total": 0.001}}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POWERTOOLS_METRICS_NAMESPACE", "Lamella")
    monkeypatch.setenv("POWERTOOLS_SERVICE_NAME", "mine")


def told(summary: dict[str, Any], retries: int, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    count_run(summary, retries)
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_a_run_is_one_line_with_stack_and_strategy_alone_as_dimensions(
    capsys: pytest.CaptureFixture[str],
) -> None:
    line = told(GOOD, 2, capsys)
    (directive,) = line["_aws"]["CloudWatchMetrics"]
    assert directive["Namespace"] == "Lamella"
    assert [set(names) for names in directive["Dimensions"]] == [{"service", "strategy"}]
    assert (line["service"], line["strategy"], line["run"]) == ("mine", "rows", "r1")
    units = {name: unit.value for name, unit in METRICS.items()}
    assert {metric["Name"]: metric["Unit"] for metric in directive["Metrics"]} == units
    values = {name: line[name] for name in METRICS}
    assert values == {
        "Runs": [1.0],
        "FailedRuns": [0.0],
        "RunSeconds": [4.5],
        "RunCostUsd": [0.5],
        "Retries": [2.0],
    }


def test_a_run_that_was_refused_is_a_failed_one_without_a_strategy(
    capsys: pytest.CaptureFixture[str],
) -> None:
    line = told(REFUSED, 0, capsys)
    assert (line["strategy"], line["Runs"], line["FailedRuns"]) == ("unplanned", [1.0], [1.0])
    assert not {"RunSeconds", "RunCostUsd", "Retries"} & set(line)


def test_runs_do_not_share_what_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    told(GOOD, 2, capsys)
    assert told(GOOD | {"strategy": "serial"}, 0, capsys)["Runs"] == [1.0]


def test_all_workers_launched_once_more_are_one_retry(capsys: pytest.CaptureFixture[str]) -> None:
    assert told(GOOD | {"attempts": 2}, 3, capsys)["Retries"] == [4.0]


def test_only_a_worker_that_is_started_again_within_an_attempt_is_a_retry() -> None:
    def scheduled(payload: dict[str, Any]) -> dict[str, Any]:
        return {"taskScheduledEventDetails": {"parameters": json.dumps({"Payload": payload})}}

    plan, collect = scheduled({"run": "r", "request": {}}), scheduled({"run": "r"})
    first = [scheduled({"attempt": 1, "worker": worker}) for worker in (0, 1, 2, 1)]
    again = [scheduled({"attempt": 2, "worker": worker}) for worker in (0, 1, 2, 2)]
    recover = scheduled({"run": "r", "attempt": 1, "error": {"Error": "E"}})
    other = [{"type": "ExecutionStarted"}, {"taskScheduledEventDetails": {"parameters": '{"Bucket": "b"}'}}]
    assert repeated_attempts([plan, plan, *first, recover, *again, collect, *other]) == 2
    assert repeated_attempts([]) == 0

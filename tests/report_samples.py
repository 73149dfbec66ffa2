"""Runs as a report tells of them, made up."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lamella.plan import Plan
from lamella.records import PlanRecord, Predicted, Share, StepRow, WorkerReport
from lamella.report import Report, build_report
from lamella.timeline import Timeline, timeline


def steps(layers: int, compute_s: float = 0.01, began_s: float = 103.0) -> tuple[StepRow, ...]:
    return tuple(
        (k, 0.02, 0.001, compute_s, 0.005, 90 - k % 90, k, 0, began_s + 0.04 * k, 2, 1000, ())
        for k in range(layers)
    )


def worker(number: int, layers: int = 12, compute_s: float = 0.01, started_s: float = 102.0) -> WorkerReport:
    return WorkerReport(
        number,
        started_s,
        started_s + 1,
        110.0,
        1024,
        steps(layers, compute_s),
        (1, "stream"),
        {},
        traffic={"sns.publish_batch": tuple((k, 1, 1100) for k in range(1, layers))},
    )


def record(name: str = "run-1", workers: int = 4) -> PlanRecord:
    plan = Plan("rows", "sns", workers, 1024, 90)
    share = Share((0, 4), (0, 90))
    request = {"input": f"s3://b/inputs/{name}.npy"}
    return PlanRecord(
        name,
        1,
        request,
        plan,
        f"s3://b/models/{name}/",
        1,
        100.0,
        900.0,
        (share,) * workers,
        {},
        planned_s=101.0,
    )


def summary(name: str = "run-1", **more: Any) -> dict[str, Any]:
    return {
        "run_id": name,
        "status": "SUCCEEDED",
        "seconds": {"total": 12.5, "prepare": 3.0, "infer": 7.0},
        "categories": 9,
        "predictions": f"s3://b/runs/{name}/predictions.csv",
        "activations": None,
        "cost_usd": {"lambda": 0.001, "sns": 0.0005, "total": 0.0015},
        "prices": "us-east-1-2026-11",
        "usage": {"sns.publish_batch": {"calls": 44, "billed": 44, "bytes": 48_400}},
    } | more


def made(
    reports: list[WorkerReport], predicted: Predicted | None = None, **more: Any
) -> tuple[Report, Timeline]:
    planned = replace(record(workers=len(reports)), predicted=predicted)
    drawn = timeline(planned, "SUCCEEDED", reports, finish_s=(112.0, 112.5))
    return build_report(summary(), planned, drawn, reports, **more), drawn

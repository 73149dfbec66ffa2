"""From a run's records to its report: pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from lamella.records import Ending, PlanRecord, WorkerReport
from lamella.report.model import (
    Alternative,
    Failure,
    Fared,
    Planned,
    Prediction,
    Published,
    Report,
    Straggler,
)
from lamella.timeline import Timeline

# From when on a worker is a straggler: so much longer than the median, and by no less than that.
MUCH_LONGER = 1.5
AT_LEAST_S = 0.2
_NAMED = 8


def build_report(
    summary: Mapping[str, Any],
    record: PlanRecord | None,
    drawn: Timeline | None,
    reports: Sequence[WorkerReport],
    failure: Failure | None = None,
    *,
    published: Published | None = None,
    timeline: str | None = None,
) -> Report:
    """A run's report.

    Parameters
    ----------
    summary
        As it lies in ``summary.json``.
    record, drawn
        None where the run was refused before it was planned.
    reports
        Of the workers that told how they fared.
    published
        What others measured, to compare with.
    timeline
        S3 address of ``timeline.json``.
    """
    zero_s = record.started_s if record else 0.0
    errors = {worker.worker: worker.error for worker in drawn.workers} if drawn else {}
    fared = tuple(_fared(report, zero_s, errors.get(report.worker)) for report in _in_order(reports))
    return Report(
        run_id=summary["run_id"],
        status=summary["status"],
        started_s=record.started_s if record else None,
        planned=_planned(record) if record else None,
        seconds=summary.get("seconds", {}),
        categories=summary.get("categories"),
        predictions=summary.get("predictions"),
        activations=summary.get("activations"),
        timeline=timeline,
        failure=failure,
        states=drawn.states if drawn else (),
        workers=fared,
        stragglers=tuple(stragglers(fared)),
        layers=drawn.layers if drawn else (),
        cost_usd=summary["cost_usd"],
        prices=summary["prices"],
        usage=summary["usage"],
        predicted=_prediction(record),
        published=published,
        alternatives=_alternatives(record),
    )


def _prediction(record: PlanRecord | None) -> Prediction | None:
    if record is None or record.predicted is None:
        return None
    expected = record.predicted
    seconds = {"total": expected.seconds, "prepare": expected.prepare_s, "infer": expected.infer_s}
    return Prediction(seconds=seconds, cost_usd=expected.usd)


def _alternatives(record: PlanRecord | None) -> tuple[Alternative, ...]:
    expected = record.predicted if record else None
    if expected is None:
        return ()
    others = {"cheaper": expected.cheaper, "faster": expected.faster}
    return tuple(
        Alternative(kind=kind, plan=other.plan, seconds=other.seconds, cost_usd=other.usd)
        for kind, other in others.items()
        if other
    )


def failure_of(error: str, cause: str, worker: int | None, endings: Sequence[Ending]) -> Failure:
    """Why a run failed, with what the worker that failed first could leave."""
    for ending in endings:
        if ending.report.worker == worker:
            steps = ending.report.steps
            return Failure(
                error=error,
                cause=cause,
                worker=worker,
                after_layer=steps[-1][0] if steps else None,
                lines=ending.lines,
            )
    return Failure(error=error, cause=cause, worker=worker)


def stragglers(workers: Sequence[Fared]) -> list[Straggler]:
    """Workers that began, read or computed much longer than the median, the worst first; at most eight.

    Waiting is no one's own: who waits, waits for one of these.
    """
    if len(workers) < 3:
        return []
    found = []
    for what in ("start", "read", "compute"):
        seconds = {worker.worker: _own_s(worker, what) for worker in workers}
        middle_s = median(seconds.values())
        found += [
            Straggler(worker=worker, what=what, seconds=round(took_s, 3), median_s=round(middle_s, 3))
            for worker, took_s in seconds.items()
            if took_s > MUCH_LONGER * middle_s and took_s - middle_s >= AT_LEAST_S
        ]
    return sorted(found, key=lambda item: item.median_s - item.seconds)[:_NAMED]


def _own_s(worker: Fared, what: str) -> float:
    if what == "start":
        return worker.started_s
    return worker.read_s if what == "read" else worker.compute_s


def _in_order(reports: Sequence[WorkerReport]) -> list[WorkerReport]:
    return sorted(reports, key=lambda report: report.worker)


def _planned(record: PlanRecord) -> Planned:
    plan = record.plan
    return Planned(
        strategy=plan.strategy,
        channel=plan.channel,
        workers=plan.workers,
        groups=plan.groups,
        micro_batches=plan.micro_batches,
        memory_mb=plan.memory_mb,
        samples=plan.samples,
        model=record.model,
        input=str(record.request.get("input", "")),
    )


def _fared(report: WorkerReport, zero_s: float, error: str | None) -> Fared:
    return Fared(
        worker=report.worker,
        incarnation=report.incarnation,
        started_s=round(report.started_s - zero_s, 3),
        joined_s=round(report.joined_s - zero_s, 3),
        ended_s=round(report.ended_s - zero_s, 3),
        wait_s=round(sum(row[1] for row in report.steps), 6),
        read_s=round(sum(row[2] for row in report.steps), 6),
        compute_s=round(sum(row[3] for row in report.steps), 6),
        send_s=round(sum(row[4] for row in report.steps), 6),
        sent_bytes=sum(row[10] for row in report.steps),
        read_bytes=report.weights.read_bytes,
        reused_bytes=report.weights.reused_bytes,
        peak_bytes=report.peak_bytes,
        error=error,
    )

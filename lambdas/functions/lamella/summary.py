"""What a run's summary says: pure functions over its records."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from lamella.events import FailedAnswer, FinishEvent
from lamella.layout import RunKeys
from lamella.records import Collected, PlanRecord, WorkerReport
from lamella.usage import Usage


def summarize(
    record: PlanRecord, found: Collected, bucket: str, keys: RunKeys, usage: Usage, now_s: float
) -> dict[str, Any]:
    """Of a run that succeeded; ``prepare`` ends when the last worker has joined, ``infer`` when it ends.

    ``total`` includes what it had waited for its turn (``waited``), which came before ``prepare``.
    """
    joined_s = max(worker.joined_s for worker in found.workers)
    ended_s = max(worker.ended_s for worker in found.workers)
    wanted = bool(record.request.get("activations"))
    written = sum(worker.checkpoints for worker in found.workers)
    return {
        "run_id": record.run,
        "status": "SUCCEEDED",
        "strategy": record.plan.strategy,
        "channel": record.plan.channel,
        "workers": record.plan.workers,
        "groups": record.plan.groups,
        "micro_batches": record.plan.micro_batches,
        "memory_mb": record.plan.memory_mb,
        "samples": record.plan.samples,
        **_attempts(record),
        "seconds": _rounded(
            total=now_s - record.started_s + record.waited_s,
            waited=record.waited_s,
            prepare=joined_s - record.started_s,
            infer=ended_s - joined_s,
        ),
        "predicted": _predicted(record),
        "categories": found.categories,
        "predictions": f"s3://{bucket}/{keys.predictions}",
        "activations": f"s3://{bucket}/{keys.activations}" if wanted else None,
        "report": f"s3://{bucket}/{keys.summary}",
        "checkpoints": asdict(record.checkpoints) | {"written": written} if record.checkpoints else None,
        "restarted": sum(worker.incarnation - 1 for worker in found.workers),
        "report_page": f"s3://{bucket}/{keys.report_page}",
        "timeline": f"s3://{bucket}/{keys.timeline}",
        "usage": usage.to_json(),
        "workers_detail": [_detail(worker, record.started_s) for worker in found.workers],
    }


def failed_summary(
    event: FinishEvent, answer: FailedAnswer, record: PlanRecord | None, usage: Usage, now_s: float
) -> dict[str, Any]:
    """Of a run that failed: why, and what was used by the functions that could say."""
    planned: dict[str, Any] = {}
    if record:
        planned = {
            "strategy": record.plan.strategy,
            "channel": record.plan.channel,
            "workers": record.plan.workers,
            "samples": record.plan.samples,
            **_attempts(record),
            "predicted": _predicted(record),
            "seconds": _rounded(total=now_s - record.started_s + record.waited_s, waited=record.waited_s),
        }
    return {
        "run_id": event.run,
        "status": failed_status(event),
        "error": answer.error,
        "cause": answer.cause,
        "usage": usage.to_json(),
    } | planned


def _predicted(record: PlanRecord) -> dict[str, Any] | None:
    """What Plan expected the run to take and cost."""
    return asdict(record.predicted) if record.predicted else None


def _attempts(record: PlanRecord) -> dict[str, Any]:
    """How often the workers were launched, and by what those attempts failed that were not the last."""
    failed = [
        {"error": attempt.error, "cause": attempt.cause, "seconds": round(attempt.seconds, 3)}
        for attempt in record.failed
    ]
    return {"attempts": record.attempt, "failed_attempts": failed}


def failed_status(event: FinishEvent) -> str:
    """How a failed run ended: as its execution did, or before that could."""
    return "FAILED" if event.status == "SUCCEEDED" else event.status


def _detail(worker: WorkerReport, run_started_s: float) -> dict[str, Any]:
    steps = [
        {
            "layer": layer,
            "wait_s": round(wait_s, 6),
            "read_s": round(read_s, 6),
            "compute_s": round(compute_s, 6),
            "send_s": round(send_s, 6),
            "live": live,
        }
        for layer, wait_s, read_s, compute_s, send_s, live, *_ in worker.steps
    ]
    return {
        "worker": worker.worker,
        "seconds": _rounded(
            started=worker.started_s - run_started_s,
            joined=worker.joined_s - run_started_s,
            ended=worker.ended_s - run_started_s,
        ),
        "memory_mb": worker.memory_mb,
        "incarnation": worker.incarnation,
        "checkpoints": worker.checkpoints,
        "process": worker.process[0],
        "log_stream": worker.process[1],
        **asdict(worker.weights),
        "peak_bytes": worker.peak_bytes,
        "usage": worker.usage,
        "steps": steps,
    }


def _rounded(**seconds: float) -> dict[str, float]:
    return {name: round(value, 3) for name, value in seconds.items()}

"""Answers as Finish does; the script tells its calls apart by their status."""

from __future__ import annotations

from typing import Any

from stub import act


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    if event["status"] == "SUCCEEDED":
        return act("finish SUCCEEDED", event, {"status": "SUCCEEDED", "run_id": event["run"]})
    return act(
        f"finish {event['status']}",
        event,
        {"error": "WorkerError", "cause": "worker 1 failed: as Finish says"},
    )

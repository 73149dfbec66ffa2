"""How far a run's workers are, as they log it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from botocore.exceptions import BotoCoreError, ClientError
from pydantic import TypeAdapter, ValidationError

if TYPE_CHECKING:
    from mypy_boto3_logs import CloudWatchLogsClient

# A line may reach CloudWatch later than one with a later timestamp, and clocks differ.
_LATE_MS = 10_000
_MAX_PAGES = 20


@dataclass(frozen=True)
class WorkerProgress:
    """One line of a worker's log.

    Attributes
    ----------
    done, layers
        Layers done, of how many of which the worker has anything.
    live
        Samples that were not all zero after the last of them.
    """

    message: Literal["joined", "progress", "ended"]
    run: str
    worker: int
    attempt: int = 1
    done: int | None = None
    layers: int | None = None
    live: int | None = None


_LINE = TypeAdapter(WorkerProgress)


def parse_line(line: str) -> WorkerProgress | None:
    """What a log line says of a worker's progress; None if it is about something else."""
    try:
        data = json.loads(line)
        if not isinstance(data, dict) or data.get("message") not in {"joined", "progress", "ended"}:
            return None
        return _LINE.validate_python(data)
    except (ValueError, ValidationError):
        return None


class LogFollower:
    """Follows the progress of one run through CloudWatch Logs.

    Parameters
    ----------
    groups
        Log groups of the worker functions.
    since_s
        Unix time at which the run was started.
    interval_s
        Least seconds between two calls: FilterLogEvents has a quota of 5 to 10 calls a second in an account.
    """

    def __init__(
        self, logs: CloudWatchLogsClient, groups: Iterable[str], run: str, since_s: float, interval_s: float
    ) -> None:
        self._logs = logs
        self._groups = list(groups)
        self._run = run
        self._since_ms = {group: int(since_s * 1000) - _LATE_MS for group in self._groups}
        self._interval_s = interval_s
        self._next_s = 0.0
        self._seen: set[str] = set()

    def poll(self, at_once: bool = False) -> list[WorkerProgress]:
        """What is new; nothing if the last call was just now, unless ``at_once``."""
        now_s = time.monotonic()
        if now_s < self._next_s and not at_once:
            return []
        self._next_s = now_s + self._interval_s
        found: list[WorkerProgress] = []
        for group in self._groups:
            fresh = self._new_lines(group)
            if fresh:
                # A run has workers of one size: no other group will have lines of it.
                self._groups = [group]
                found += fresh
                break
        return found

    def _new_lines(self, group: str) -> list[WorkerProgress]:
        found: list[WorkerProgress] = []
        token: str | None = None
        latest_ms = self._since_ms[group]
        for _ in range(_MAX_PAGES):
            more = {"nextToken": token} if token else {}
            try:
                page = self._logs.filter_log_events(
                    logGroupName=group,
                    startTime=self._since_ms[group],
                    filterPattern=f'"{self._run}"',
                    **more,  # type: ignore[arg-type]
                )
            except (ClientError, BotoCoreError):
                # Progress is a courtesy: the run is watched through its execution.
                break
            for event in page.get("events", []):
                latest_ms = max(latest_ms, event.get("timestamp", 0) - _LATE_MS)
                if event.get("eventId", "") in self._seen:
                    continue
                self._seen.add(event.get("eventId", ""))
                line = parse_line(event.get("message", ""))
                if line is not None and line.run == self._run:
                    found.append(line)
            token = page.get("nextToken")
            if not token:
                break
        self._since_ms[group] = latest_ms
        return found

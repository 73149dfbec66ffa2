"""The cloud's clock, which tests move forward, and the HTTP address where they do."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from workflows.embedded_cloud.errors import EmbeddedCloudError
from workflows.embedded_cloud.json_answers import answer_json
from workflows.embedded_cloud.lambda_api import StartResponse
from workflows.embedded_cloud.launcher import CLOCK_PATH

LONGEST_ADVANCE_S = 366 * 86_400.0


class Clock:
    """Real time plus an offset that only grows.

    Schedules follow it: those of EventBridge Scheduler and the ScheduleExpression of EventBridge rules.
    Everything else runs in real time: Lambda's timeouts and retries, SQS's visibility and delays, waits and
    timeouts of Step Functions, S3's lifecycle, and every timestamp that another service shows.
    """

    def __init__(self) -> None:
        self._ahead_s = 0.0
        self._lock = threading.Lock()

    @property
    def ahead_s(self) -> float:
        """Seconds by which it is ahead of real time."""
        return self._ahead_s

    def now(self) -> float:
        """Seconds since the epoch."""
        return time.time() + self._ahead_s

    def advance(self, seconds: float) -> None:
        """Move forward.

        Raises
        ------
        EmbeddedCloudError
            If it is not a number of seconds from 0 to a year's.
        """
        if not (math.isfinite(seconds) and 0 <= seconds <= LONGEST_ADVANCE_S):
            raise EmbeddedCloudError(
                f"The clock moves forward by 0 to {LONGEST_ADVANCE_S:.0f} s, not {seconds}"
            )
        with self._lock:
            self._ahead_s += seconds


class ClockApi:
    """WSGI application at :data:`~workflows.embedded_cloud.launcher.CLOCK_PATH`.

    ``GET`` tells the time; ``POST {"advance_s": 3600}`` moves it forward, and answers when everything that
    has become due was sent to its target. Both answer the time, as text and in seconds since the epoch, and
    by how much it is ahead: ``{"now": "2026-01-31T12:00:00.000Z", "now_s": 1769860800.0, "ahead_s": 9.0}``.

    Parameters
    ----------
    advance
        Moves the clock and fires what is due.
    """

    def __init__(self, clock: Clock, advance: Callable[[float], object]) -> None:
        self._clock = clock
        self._advance = advance

    def takes(self, environ: dict[str, Any]) -> bool:
        """Whether the request is for the clock."""
        return bool(environ.get("PATH_INFO") == CLOCK_PATH)

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        status = "200 OK"
        answer: dict[str, Any] = {}
        if environ["REQUEST_METHOD"] == "POST":
            body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            try:
                self._advance(float(json.loads(body)["advance_s"]))
            except (EmbeddedCloudError, ValueError, TypeError, KeyError) as error:
                status = "400 Bad Request"
                answer = {"message": f'{CLOCK_PATH} takes {{"advance_s": SECONDS}}: {error}'}
        now = self._clock.now()
        answer = answer or {"now": iso_time(now), "now_s": now, "ahead_s": self._clock.ahead_s}
        return answer_json(start_response, status, answer)


def iso_time(moment_s: float, timespec: str = "milliseconds") -> str:
    """Write a time as AWS does, "2026-01-31T12:00:00.000Z"; ``timespec`` as in :meth:`datetime.isoformat`."""
    return datetime.fromtimestamp(moment_s, UTC).isoformat(timespec=timespec).replace("+00:00", "Z")

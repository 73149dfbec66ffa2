"""The lines that Lambda itself writes to a function's log.

docs.aws.amazon.com/lambda/latest/dg/python-logging.html and .../telemetry-schema-reference.html.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from workflows.embedded_cloud.invocation import FunctionConfig
from workflows.embedded_cloud.log_streams import LogStream


class PlatformLog:
    """Writes INIT_START, START, END and REPORT, as text or as JSON, as the function's logging is set."""

    def __init__(self, log: LogStream, config: FunctionConfig) -> None:
        self._log = log
        self._config = config

    def init_start(self) -> None:
        """A new environment begins."""
        config = self._config
        if config.log_json:
            record = {
                "initializationType": "on-demand",
                "phase": "init",
                "runtimeVersion": config.runtime,
                "functionName": config.name,
                "functionVersion": config.version,
            }
            self._event("platform.initStart", record)
        else:
            self._log.write_line(f"INIT_START Runtime Version: {config.runtime}")

    def start(self, request_id: str) -> None:
        """An invocation begins."""
        version = self._config.version
        if self._config.log_json:
            self._event("platform.start", {"requestId": request_id, "version": version})
        else:
            self._log.write_line(f"START RequestId: {request_id} Version: {version}")

    def report(
        self, request_id: str, duration_ms: float, peak_mb: int, init_ms: float | None, error_type: str | None
    ) -> None:
        """An invocation ended. INIT is billed with the invocation that it came before."""
        billed_ms = math.ceil(duration_ms + (init_ms or 0.0))
        memory_mb = self._config.memory_mb
        if self._config.log_json:
            metrics: dict[str, float] = {
                "durationMs": round(duration_ms, 3),
                "billedDurationMs": billed_ms,
                "memorySizeMB": memory_mb,
                "maxMemoryUsedMB": peak_mb,
            }
            if init_ms is not None:
                metrics["initDurationMs"] = round(init_ms, 3)
            status: dict[str, Any] = {"status": "error" if error_type else "success"}
            if error_type:
                status["errorType"] = error_type
            self._event("platform.report", {"requestId": request_id, "metrics": metrics, **status})
            return
        self._log.write_line(f"END RequestId: {request_id}")
        parts = [
            f"REPORT RequestId: {request_id}",
            f"Duration: {duration_ms:.2f} ms",
            f"Billed Duration: {billed_ms} ms",
            f"Memory Size: {memory_mb} MB",
            f"Max Memory Used: {peak_mb} MB",
        ]
        if init_ms is not None:
            parts.append(f"Init Duration: {init_ms:.2f} ms")
        if error_type:
            parts += ["Status: error", f"Error Type: {error_type}"]
        self._log.write_line("\t".join(parts))

    def _event(self, event_type: str, record: Mapping[str, Any]) -> None:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
        self._log.write_line(json.dumps({"time": now, "type": event_type, "record": record}))

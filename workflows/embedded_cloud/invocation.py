"""What an invocation is, what comes back, and the error objects that Lambda makes itself."""

from __future__ import annotations

import json
import threading
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SYNC_PAYLOAD_LIMIT_BYTES = 6_291_456
ASYNC_PAYLOAD_LIMIT_BYTES = 1_048_576
REPLY_LIMIT_BYTES = 6_291_556
"""Payload limits: docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html."""


@dataclass(frozen=True)
class FunctionConfig:
    """Everything of a function that its execution environments depend on.

    Attributes
    ----------
    layers
        Unzipped layers, in the order of the function: later ones win.
    python
        Version, "3.11".
    """

    name: str
    arn: str
    version: str
    handler: str
    runtime: str
    python: str
    executable: Path
    runtime_directory: Path
    code: Path
    layers: tuple[Path, ...]
    environment: tuple[tuple[str, str], ...]
    memory_mb: int
    temporary_storage_mb: int
    access_key: str
    timeout_s: int
    region: str
    log_group: str
    log_json: bool
    log_level: str | None
    tracing: bool

    @property
    def pool_key(self) -> tuple[str, str]:
        """Name and version: what concurrency and reuse go by."""
        return self.arn, self.version


@dataclass(frozen=True)
class Outcome:
    """What an invocation ended with.

    Attributes
    ----------
    function_error
        "Unhandled" if the payload is an error object, else None.
    log_tail
        The last 4 KiB that the environment logged during the invocation.
    environment_died
        Whether the environment can serve no further invocation.
    """

    payload: bytes
    function_error: str | None
    log_tail: bytes = b""
    environment_died: bool = False


@dataclass
class Invocation:
    """One invocation on its way through an execution environment."""

    payload: bytes
    client_context: str = ""
    trace_id: str = ""
    request_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    started: threading.Event = field(default_factory=threading.Event)
    finished: threading.Event = field(default_factory=threading.Event)
    started_at: float = 0.0
    outcome: Outcome | None = None

    def mark_started(self) -> None:
        """The runtime has taken it."""
        self.started_at = time.monotonic()
        self.started.set()


def error_payload(error_type: str, message: str, request_id: str | None = None) -> bytes:
    """Return the JSON object by which Lambda reports an error that no handler raised."""
    text = f"RequestId: {request_id} Error: {message}" if request_id else message
    error: dict[str, Any] = {"errorType": error_type, "errorMessage": text}
    return json.dumps(error).encode()

"""JSON, as the cloud's own addresses answer it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from workflows.embedded_cloud.lambda_api import StartResponse


def answer_json(start_response: StartResponse, status: str, answer: dict[str, Any]) -> Iterable[bytes]:
    """Answer a request with an object."""
    body = json.dumps(answer).encode()
    start_response(status, [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]

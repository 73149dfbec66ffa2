"""Plans three workers of the size that LAMELLA_WORKERS lists first."""

from __future__ import annotations

import os
from typing import Any

from stub import act

SMALLEST = os.environ["LAMELLA_WORKERS"].split(",")[0].partition("=")[2]


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    answer = {"run": event["run"], "attempt": 1, "function": SMALLEST, "workers": [0, 1, 2]}
    return act("plan", event, answer)

"""Follows the script for its number."""

from __future__ import annotations

from typing import Any

from stub import act


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    return act(f"worker {event['worker']}", event, {"worker": event["worker"]})

"""Messages on their way into a queue: late, twice, in another order, damaged."""

from __future__ import annotations

import copy
from typing import Any

from workflows.embedded_cloud.faults.plan import FaultPlan
from workflows.embedded_cloud.faults.rules import DELIVERY


class Deliveries:
    """What a queue gets of each message that is sent to it."""

    def __init__(self, plan: FaultPlan) -> None:
        self._plan = plan

    def __call__(self, message: Any, delay_s: float) -> list[tuple[Any, float]]:
        """Messages (moto's), and how long each is kept back."""
        if not self._plan.active:
            return [(message, delay_s)]
        arrivals = [(message, delay_s)]
        for due in self._plan.due("sqs", DELIVERY, message.body.encode()):
            match due.rule.fault:
                case "delay":
                    arrivals = [(each, late_s + due.rule.seconds) for each, late_s in arrivals]
                case "reorder":
                    arrivals = [(each, late_s + due.draw * due.rule.seconds) for each, late_s in arrivals]
                case "duplicate":
                    arrivals.append((copy.copy(message), delay_s + due.draw * due.rule.seconds))
                case fault:
                    arrivals = [(_damaged(each, fault, due.draw), late_s) for each, late_s in arrivals]
        return arrivals


def _damaged(message: Any, fault: str, draw: float) -> Any:
    """The message with its binary attributes damaged."""
    shown = copy.copy(message)
    shown.message_attributes = {
        name: {**attribute, "BinaryValue": damaged(attribute["BinaryValue"], fault, draw)}
        if isinstance(attribute, dict) and isinstance(attribute.get("BinaryValue"), bytes)
        else attribute
        for name, attribute in (message.message_attributes or {}).items()
    }
    return shown


def damaged(data: bytes, fault: str, draw: float) -> bytes:
    """Half of the bytes ("truncate"), or all with one bit changed ("flip")."""
    if fault == "truncate" or not data:
        return data[: len(data) // 2]
    bit = min(int(draw * 8 * len(data)), 8 * len(data) - 1)
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << (bit % 8)
    return bytes(changed)

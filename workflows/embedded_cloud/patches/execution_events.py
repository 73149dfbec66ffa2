"""The EventBridge event of an execution.

docs.aws.amazon.com/step-functions/latest/dg/eventbridge-integration.html
"""

from __future__ import annotations

import copy
import logging
import threading
import time
import uuid
from typing import Any

from moto.events.models import events_backends
from moto.stepfunctions.parser.asl.utils.encoding import to_json_str

_log = logging.getLogger(__name__)


def publish_status_change(execution: Any, status: Any) -> None:
    """Send the event of a new status to the rules that match it, without waiting for their targets."""
    name = getattr(status, "value", str(status))
    detail: dict[str, Any] = {
        "executionArn": execution.exec_arn,
        "stateMachineArn": execution.state_machine_arn,
        "name": execution.name,
        "status": name,
        "startDate": _milliseconds(execution.start_date),
        "stopDate": _milliseconds(execution.stop_date),
        "input": execution.execution_input,
        "inputDetails": {"included": True},
        "output": to_json_str(execution.output, separators=(",", ":")) if name == "SUCCEEDED" else None,
        "outputDetails": {"included": True} if name == "SUCCEEDED" else None,
        "error": execution.error,
        "cause": execution.cause,
    }
    event = {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": "Step Functions Execution Status Change",
        "source": "aws.states",
        "account": execution.account_id,
        "time": time.time(),
        "region": execution.region_name,
        "resources": [execution.exec_arn],
        "detail": detail,
    }
    bus = events_backends[execution.account_id][execution.region_name].describe_event_bus("default")
    rules = [rule for rule in bus.rules.values() if rule.state == "ENABLED"]
    if rules:
        threading.Thread(target=_send, args=(rules, event), daemon=True).start()


def _send(rules: list[Any], event: dict[str, Any]) -> None:
    for rule in rules:
        try:
            rule.send_to_targets(copy.deepcopy(event))  # which moto changes
        except Exception:
            _log.exception("rule %s", rule.name)


def _milliseconds(moment: Any) -> int | None:
    return int(moment.timestamp() * 1000) if moment is not None else None

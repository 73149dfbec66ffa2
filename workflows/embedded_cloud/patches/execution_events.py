"""The EventBridge event of an execution.

docs.aws.amazon.com/step-functions/latest/dg/eventbridge-integration.html
"""

from __future__ import annotations

from typing import Any

from moto.stepfunctions.parser.asl.utils.encoding import to_json_str

from workflows.embedded_cloud.event_bus import EventBus, ServiceEvent


def publish_status_change(bus: EventBus, execution: Any, status: Any) -> None:
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
    bus.publish(
        ServiceEvent(
            source="aws.states",
            detail_type="Step Functions Execution Status Change",
            account=execution.account_id,
            region=execution.region_name,
            resources=(execution.exec_arn,),
            detail=detail,
        )
    )


def _milliseconds(moment: Any) -> int | None:
    return int(moment.timestamp() * 1000) if moment is not None else None

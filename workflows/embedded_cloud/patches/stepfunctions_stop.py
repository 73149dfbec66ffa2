"""How executions end: StopExecution, and the events that tell of it."""

from __future__ import annotations

import datetime
import threading
import time
from typing import Any

from moto.core.responses import ActionResult
from moto.stepfunctions.parser.api import ExecutionAbortedEventDetails, ExecutionStatus, HistoryEventType
from moto.stepfunctions.parser.asl.eval.environment import Environment
from moto.stepfunctions.parser.asl.eval.event.event_detail import EventDetails
from moto.stepfunctions.parser.asl.eval.event.event_manager import EventHistoryContext, EventManager
from moto.stepfunctions.parser.asl.eval.program_state import ProgramStopped
from moto.stepfunctions.parser.asl.utils.encoding import to_json_str
from moto.stepfunctions.parser.backend.execution import BaseExecutionWorkerCommunication, Execution
from moto.stepfunctions.parser.utils import TMP_THREADS
from moto.stepfunctions.responses import StepFunctionResponse

from workflows.embedded_cloud.patches.context import CloudContext
from workflows.embedded_cloud.patches.execution_events import publish_status_change

_ENVIRONMENT_WAIT_S = 2.0


def stop_really_stops(_context: CloudContext) -> None:
    """StopExecution ends an execution at once: ABORTED stays, and no state is entered after it.

    moto waits for running tasks, and a Map that is stopped fails, is caught, and goes on with the next state.
    """
    original_error = Environment.set_error
    original_timed_out = Environment.set_timed_out
    original_add = EventManager.add_event
    original_reflect = BaseExecutionWorkerCommunication._reflect_execution_status

    def stopped(environment: Any) -> bool:
        return isinstance(environment._program_state, ProgramStopped)

    def set_error(self: Any, error: Any) -> None:
        if not stopped(self):
            original_error(self, error)

    def set_timed_out(self: Any) -> None:
        if not stopped(self):
            original_timed_out(self)

    def add_event(self: Any, *args: Any, **kwargs: Any) -> int:
        if getattr(self, "closed", False):
            return 0
        return int(original_add(self, *args, **kwargs))

    def stop(self: Any, stop_date: datetime.datetime, error: str | None, cause: str | None) -> None:
        environment = _environment_of(self)
        if self.exec_status != ExecutionStatus.RUNNING or environment is None:
            return
        environment.set_stop(stop_date=stop_date, error=error, cause=cause)
        if not stopped(environment):  # it ended in the meantime
            return
        environment.event_manager.add_event(
            context=EventHistoryContext.of_program_start(),
            event_type=HistoryEventType.ExecutionAborted,
            event_details=EventDetails(
                executionAbortedEventDetails=ExecutionAbortedEventDetails(error=error, cause=cause)
            ),
        )
        environment.event_manager.closed = True
        self.stop_date, self.error, self.cause = stop_date, error or None, cause or None
        self.exec_status = ExecutionStatus.ABORTED

    def reflect(self: Any) -> None:
        if self.execution.exec_status == ExecutionStatus.RUNNING:
            original_reflect(self)
        TMP_THREADS[:] = [thread for thread in TMP_THREADS if thread.is_alive()]  # moto keeps every one

    Environment.set_error = set_error
    Environment.set_timed_out = set_timed_out
    EventManager.add_event = add_event
    Execution.stop = stop
    BaseExecutionWorkerCommunication._reflect_execution_status = reflect


def stop_with_error_and_cause(_context: CloudContext) -> None:
    """StopExecution's error and cause are part of the execution; moto drops them."""

    def stop_execution(self: Any) -> ActionResult:
        execution = self.stepfunction_backend.describe_execution(self._get_param("executionArn"))
        now = datetime.datetime.now(tz=datetime.UTC)
        execution.stop(stop_date=now, error=self._get_param("error"), cause=self._get_param("cause"))
        return ActionResult({"stopDate": execution.stop_date or now})

    StepFunctionResponse.stop_execution = stop_execution


def describe_executions_as_json(_context: CloudContext) -> None:
    """An execution's output is JSON text, a string too, and every execution that ended has a stopDate.

    In moto a string lacks its quotes, a date in the output is an error 500, and TIMED_OUT has no end.
    """
    original_details = Execution.get_start_execution_details

    def details(self: Any) -> Any:
        found = original_details(self)
        if isinstance(found.start_time, datetime.datetime):
            moment = found.start_time.astimezone(datetime.UTC)
            found.start_time = moment.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
        return found

    def describe_execution(self: Any) -> ActionResult:
        execution = self.stepfunction_backend.describe_execution(self._get_param("executionArn"))
        answer = {
            "executionArn": execution.execution_arn,
            "stateMachineArn": execution.state_machine_arn,
            "name": execution.name,
            "status": execution.status,
            "startDate": execution.start_date,
            "input": execution.execution_input,
            "inputDetails": {"included": True},
        }
        if execution.stop_date is not None:
            answer["stopDate"] = execution.stop_date
        if execution.status == ExecutionStatus.SUCCEEDED.value:
            answer["output"] = to_json_str(execution.output, separators=(",", ":"))
            answer["outputDetails"] = {"included": True}
        answer |= {key: getattr(execution, key) for key in ("error", "cause") if getattr(execution, key)}
        if hasattr(execution, "map_run_arn"):
            answer["mapRunArn"] = execution.map_run_arn
        return ActionResult(answer)

    Execution.get_start_execution_details = details
    StepFunctionResponse.describe_execution = describe_execution


def publish_status_changes(context: CloudContext) -> None:
    """Executions tell EventBridge when their status changes ("Step Functions Execution Status Change")."""
    original_start = Execution.start
    original_stop = Execution.stop
    original_reflect = BaseExecutionWorkerCommunication._reflect_execution_status

    def start(self: Any) -> None:
        publish_status_change(context.event_bus, self, ExecutionStatus.RUNNING)
        original_start(self)

    def stop(self: Any, *args: Any, **kwargs: Any) -> None:
        before = self.exec_status
        original_stop(self, *args, **kwargs)
        if before == ExecutionStatus.RUNNING and self.exec_status == ExecutionStatus.ABORTED:
            publish_status_change(context.event_bus, self, self.exec_status)

    def reflect(self: Any) -> None:
        before = self.execution.exec_status
        original_reflect(self)
        if before == ExecutionStatus.RUNNING:
            publish_status_change(context.event_bus, self.execution, self.execution.exec_status)

    Execution.start = start
    Execution.stop = stop
    BaseExecutionWorkerCommunication._reflect_execution_status = reflect


def _environment_of(execution: Any) -> Any:
    """An execution's environment, which its thread makes a moment after it starts."""
    deadline = time.monotonic() + _ENVIRONMENT_WAIT_S
    pause = threading.Event()
    while time.monotonic() < deadline:
        environment = execution.exec_worker.env if execution.exec_worker else None
        if environment is not None and environment._program_state is not None:
            return environment
        pause.wait(0.005)
    return None


PATCHES = (
    stop_really_stops,
    stop_with_error_and_cause,
    describe_executions_as_json,
    publish_status_changes,
)

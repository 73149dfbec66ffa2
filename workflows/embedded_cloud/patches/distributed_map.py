"""Distributed Maps: every item is an execution of its own, of which Step Functions' API and EventBridge tell.

docs.aws.amazon.com/step-functions/latest/dg/state-map-distributed.html
"""

from __future__ import annotations

import datetime
import threading
import uuid
from collections.abc import Iterator
from typing import Any

from moto.core.responses import ActionResult
from moto.stepfunctions.exceptions import ResourceNotFound
from moto.stepfunctions.parser.api import (
    ExecutionAbortedEventDetails,
    ExecutionStartedEventDetails,
    ExecutionStatus,
    HistoryEventExecutionDataDetails,
    HistoryEventType,
    MapRunFailedEventDetails,
    MapRunStatus,
)
from moto.stepfunctions.parser.asl.component.common.error_name.failure_event import (
    FailureEvent,
    FailureEventException,
)
from moto.stepfunctions.parser.asl.component.common.error_name.states_error_name import StatesErrorName
from moto.stepfunctions.parser.asl.component.common.error_name.states_error_name_type import (
    StatesErrorNameType,
)
from moto.stepfunctions.parser.asl.component.state.exec.state_map.iteration.distributed_iteration_component import (  # noqa: E501
    DistributedIterationComponent,
)
from moto.stepfunctions.parser.asl.component.state.exec.state_map.iteration.itemprocessor.distributed_item_processor_worker import (  # noqa: E501
    DistributedItemProcessorWorker,
)
from moto.stepfunctions.parser.asl.component.state.exec.state_map.iteration.itemprocessor.map_run_record import (  # noqa: E501
    MapRunRecord,
)
from moto.stepfunctions.parser.asl.eval.environment import Environment
from moto.stepfunctions.parser.asl.eval.event.event_detail import EventDetails
from moto.stepfunctions.parser.asl.eval.event.event_manager import EventHistoryContext, EventManager
from moto.stepfunctions.parser.asl.eval.program_state import ProgramEnded, ProgramError, ProgramStopped
from moto.stepfunctions.parser.asl.eval.states import ExecutionData, ItemData, MapData, StateMachineData
from moto.stepfunctions.parser.asl.utils.encoding import to_json_str
from moto.stepfunctions.parser.models import StepFunctionsParserBackend
from moto.stepfunctions.responses import StepFunctionResponse

from workflows.embedded_cloud.patches.context import CloudContext
from workflows.embedded_cloud.patches.execution_events import publish_status_change


class ChildExecution:
    """The execution of one item of a Map Run, with what the API tells of an execution.

    Parameters
    ----------
    environment
        The frame that its states are run in; becomes an environment of its own.
    item
        Its input.
    """

    def __init__(self, record: Any, environment: Any, item: Any) -> None:
        self.environment = environment
        self.record = record
        self.map_run_arn = record.map_run_arn
        self.state_machine_arn = record.map_state_machine_arn
        self.name = str(uuid.uuid4())
        prefix = record.map_state_machine_arn.replace(":stateMachine:", ":execution:")
        self.exec_arn = self.execution_arn = f"{prefix}:{self.name}"
        self.account_id = environment.aws_execution_details.account
        self.region_name = environment.aws_execution_details.region
        self.execution_input = to_json_str(item, separators=(",", ":"))
        self.start_date = _now()
        self.stop_date: datetime.datetime | None = None
        self.exec_status = ExecutionStatus.RUNNING
        self.output: Any = None
        self.error: str | None = None
        self.cause: str | None = None
        self._lock = threading.Lock()
        self._enter(item)

    @property
    def status(self) -> str:
        return str(self.exec_status.value)

    def to_history_output(self) -> dict[str, Any]:
        return {"events": self.environment.event_manager.get_event_history()}

    def stop(self, stop_date: datetime.datetime, error: str | None, cause: str | None) -> None:
        """As StopExecution does: it enters no further state."""
        self.environment.set_stop(stop_date=stop_date, error=error, cause=cause)

    def aborted(self) -> None:
        """Its environment was stopped."""
        if self._ended(ExecutionStatus.ABORTED):
            self.environment.event_manager.add_event(
                context=EventHistoryContext.of_program_start(),
                event_type=HistoryEventType.ExecutionAborted,
                event_details=EventDetails(executionAbortedEventDetails=ExecutionAbortedEventDetails()),
            )
            self.environment.event_manager.closed = True
            self.record.set_stop(status=MapRunStatus.ABORTED)

    def done(self) -> None:
        """Its last state has ended, or failed."""
        state = self.environment.program_state()
        if isinstance(state, ProgramEnded):
            self.output = self.environment.states.get_input()
            self._ended(ExecutionStatus.SUCCEEDED)
        elif isinstance(state, ProgramError):
            details = state.error or {}
            self.error, self.cause = details.get("error"), details.get("cause")
            self._ended(ExecutionStatus.FAILED)
        elif not isinstance(state, ProgramStopped):
            self._ended(ExecutionStatus.TIMED_OUT)

    def status_changed(self) -> None:
        """Hook for whoever is to be told."""

    def _enter(self, item: Any) -> None:
        environment = self.environment
        context = environment.states.context_object.context_object_data
        role = context["Execution"]["RoleArn"]
        context["Execution"] = ExecutionData(
            Id=self.exec_arn, Input=item, Name=self.name, RoleArn=role, StartTime=_text(self.start_date)
        )
        machine = context["StateMachine"]["Name"]
        context["StateMachine"] = StateMachineData(Id=self.state_machine_arn, Name=machine)
        context.pop("Map", None)
        environment.child_execution = self
        environment.event_manager = EventManager()
        environment.event_history_context = EventHistoryContext.of_program_start()
        environment._is_frame = False
        environment.event_manager.add_event(
            context=environment.event_history_context,
            event_type=HistoryEventType.ExecutionStarted,
            event_details=EventDetails(
                executionStartedEventDetails=ExecutionStartedEventDetails(
                    input=self.execution_input,
                    inputDetails=HistoryEventExecutionDataDetails(truncated=False),
                    roleArn=role,
                )
            ),
            update_source_event_id=False,
        )

    def _ended(self, status: ExecutionStatus) -> bool:
        """Whether this is how it ended: what comes first stays."""
        with self._lock:
            if self.exec_status != ExecutionStatus.RUNNING:
                return False
            self.stop_date, self.exec_status = _now(), status
        for counter in (self.record.item_counter, self.record.execution_counter):
            counter.running.offset(-1)
            getattr(counter, status.value.lower()).count()
            if status == ExecutionStatus.SUCCEEDED:
                counter.results_written.count()
        self.status_changed()
        return True


def children_are_executions(_context: CloudContext) -> None:
    """An item's execution has a name, a history and a context object of its own, and can be asked for.

    In moto they have those of the parent, whose history they are then missing from, and can't be found.
    """
    original_describe = StepFunctionsParserBackend.describe_execution
    original_list = StepFunctionResponse.list_executions

    def _eval_job(self: Any, env: Any, job: Any) -> None:
        record = self._map_run_record
        job.job_output = None
        if isinstance(env._program_state, ProgramStopped):
            return
        for counter in (record.item_counter, record.execution_counter):
            counter.total.count()
            counter.running.count()
        context = env.states.context_object.context_object_data
        context["Map"] = MapData(Item=ItemData(Index=job.job_index, Value=job.job_input))
        env.states.reset(job.job_input)
        env.stack.append(env.states.get_input())
        try:
            self._eval_input(env_frame=env)
        except FailureEventException:
            record.item_counter.running.offset(-1)
            record.item_counter.failed.count()
            return
        child = ChildExecution(record, env, env.states.get_input())
        _children(record)[child.exec_arn] = child
        child.status_changed()
        job.job_program.eval(env)
        child.done()
        job.job_output = child.output

    def describe_execution(self: Any, execution_arn: str) -> Any:
        for record in _map_runs(self) if "/" in execution_arn.split(":", 6)[-1].split(":")[0] else ():
            if execution_arn in _children(record):
                return _children(record)[execution_arn]
        return original_describe(self, execution_arn)

    def list_executions(self: Any) -> ActionResult:
        arn, status = self._get_param("mapRunArn"), self._get_param("statusFilter")
        if not arn:
            return original_list(self)
        record = next(
            (each for each in _map_runs(self.stepfunction_backend) if each.map_run_arn == arn), None
        )
        if record is None:
            raise ResourceNotFound(arn)
        found = [child for child in [*_children(record).values()] if status in {None, child.status}]
        return ActionResult({"executions": [_listed(child) for child in reversed(found)]})

    DistributedItemProcessorWorker._eval_job = _eval_job
    StepFunctionsParserBackend.describe_execution = describe_execution
    StepFunctionResponse.list_executions = list_executions


def publish_status_changes_of_children(context: CloudContext) -> None:
    """Items' executions tell EventBridge as others do; their machine's ARN has the Map's label at its end."""

    def status_changed(self: Any) -> None:
        publish_status_change(context.event_bus, self, self.exec_status)

    ChildExecution.status_changed = status_changed  # type: ignore[method-assign]


def distributed_map_fails_with_its_items(_context: CloudContext) -> None:
    """A Distributed Map fails when more items fail than tolerated; in moto it succeeds with null for each."""
    original = DistributedItemProcessorWorker._eval_job

    def _eval_job(self: Any, env: Any, job: Any) -> None:
        original(self, env, job)
        record = self._map_run_record
        failed = record.item_counter.failed.get() + record.item_counter.timed_out.get()
        percentage = 100 * failed / max(1, self._job_pool._jobs_number)
        limits = [(failed, record.tolerated_failure_count), (percentage, record.tolerated_failure_percentage)]
        given = [(reached, limit) for reached, limit in limits if limit] or [(failed, 0)]
        if any(reached > limit for reached, limit in given):
            error = StatesErrorNameType.StatesExceedToleratedFailureThreshold
            cause = "The specified tolerated failure threshold was exceeded"
            details = EventDetails(
                mapRunFailedEventDetails=MapRunFailedEventDetails(error=error.to_name(), cause=cause)
            )
            job.job_output = FailureEventException(
                FailureEvent(env, StatesErrorName(typ=error), HistoryEventType.MapRunFailed, details)
            )

    DistributedItemProcessorWorker._eval_job = _eval_job


def map_runs_stop_their_children(_context: CloudContext) -> None:
    """A Map Run that fails, or whose parent is stopped, aborts the executions that it has started.

    In moto they go on with their next states, and the Map Run of a stopped execution succeeds later.
    """
    original_body = DistributedIterationComponent._eval_body
    original_stop = Environment.set_stop
    original_run_stop = MapRunRecord.set_stop

    def _eval_body(self: Any, env: Any) -> None:
        record = env.stack[-1].map_run_record
        try:
            original_body(self, env)
        finally:
            for child in [*_children(record).values()]:
                child.stop(_now(), None, None)

    def set_stop(self: Any, *args: Any, **kwargs: Any) -> None:
        original_stop(self, *args, **kwargs)
        child = getattr(self, "child_execution", None)
        if child is not None and isinstance(self._program_state, ProgramStopped):
            child.aborted()

    def set_run_stop(self: Any, status: MapRunStatus) -> None:
        if self.status == MapRunStatus.RUNNING:
            original_run_stop(self, status)

    DistributedIterationComponent._eval_body = _eval_body
    Environment.set_stop = set_stop
    MapRunRecord.set_stop = set_run_stop


def _children(record: Any) -> dict[str, ChildExecution]:
    """A Map Run's executions by their ARN, in the order of their starts."""
    found: dict[str, ChildExecution] = record.__dict__.setdefault("children", {})
    return found


def _map_runs(backend: Any) -> Iterator[Any]:
    for execution in backend._get_executions():
        environment = execution.exec_worker.env if execution.exec_worker else None
        if environment is not None:
            yield from environment.map_run_record_pool_manager.get_all()


def _listed(child: ChildExecution) -> dict[str, Any]:
    stopped = {"stopDate": child.stop_date} if child.stop_date else {}
    return {
        "executionArn": child.exec_arn,
        "stateMachineArn": child.state_machine_arn,
        "mapRunArn": child.map_run_arn,
        "name": child.name,
        "status": child.status,
        "startDate": child.start_date,
        **stopped,
    }


def _now() -> datetime.datetime:
    return datetime.datetime.now(tz=datetime.UTC)


def _text(moment: datetime.datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


PATCHES = (
    children_are_executions,
    publish_status_changes_of_children,
    distributed_map_fails_with_its_items,
    map_runs_stop_their_children,
)

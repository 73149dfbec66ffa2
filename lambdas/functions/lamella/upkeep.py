"""What a caller does to keep a deployed Lamella in order: cancel a run, remove what dead runs left."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from lamella.client import RunHandle, Stack, explained, one_line, stop
from lamella.errors import CloudError, InputError
from lamella.events import SweepAnswer, SweepEvent
from lamella.layout import RunKeys
from lamella.leaving import end_workers

# Finish waits for workers for ten seconds, and may have to be started first.
RELEASED_WITHIN_S = 60.0
_POLL_S = 0.5
_STOPPED = {"RUNNING", "ABORTED"}


@dataclass(frozen=True)
class Cancelled:
    """A run that was stopped.

    Attributes
    ----------
    staying
        Workers that had begun and were not seen to leave.
    workers_left_s
        Seconds from the stop until the last of the others had left.
    released
        Whether the run has given back all that it held, as far as its workers had left.
    """

    run_id: str
    status: str
    staying: tuple[int, ...]
    workers_left_s: float
    released: bool


def cancel(run: RunHandle) -> Cancelled:
    """Stop a run, and wait until its workers have left and what it held is given back.

    The execution is stopped as Step Functions' console does it; what that has Finish do by a rule, a moment
    later, is to tell the workers to leave. They are told here already.

    Raises
    ------
    InputError
        If it has ended by itself.
    CloudError
        If a call to AWS fails.
    """
    _check_can_be_stopped(run)
    began_s = time.monotonic()
    stop(run)
    # It may have ended at that moment: then nobody is told to leave.
    _check_can_be_stopped(run)
    keys, bucket = RunKeys(run.run_id), run.stack.files()
    with explained(f"ending the workers of run {run.run_id}"):
        _, staying = end_workers(bucket, keys, "ABORTED")
        workers_left_s = time.monotonic() - began_s
        while not (released := bucket.exists(keys.summary)):
            if time.monotonic() - began_s >= RELEASED_WITHIN_S:
                break
            time.sleep(_POLL_S)
    return Cancelled(run.run_id, "ABORTED", tuple(sorted(staying)), round(workers_left_s, 3), released)


def clean(stack: Stack, *, remove: bool) -> SweepAnswer:
    """Have the stack's own Sweep remove what dead runs left, or only say what that is.

    Raises
    ------
    InputError
        If the stack has no Sweep.
    CloudError
        If the call to AWS fails, or Sweep does.
    """
    if stack.sweep_function is None:
        raise InputError(
            f"stack {stack.name} has no function that sweeps: update it with 'sam build && sam deploy'"
        )
    what = f"sweeping stack {stack.name}"
    with explained(what):
        answer = stack.clients.lambda_.invoke(
            FunctionName=stack.sweep_function, Payload=SweepEvent(remove=remove).model_dump_json().encode()
        )
        body = answer["Payload"].read()
    if "FunctionError" in answer:
        raise CloudError(f"{what} failed: {_message(body)}: see the log group of {stack.sweep_function}")
    try:
        return SweepAnswer.model_validate_json(body)
    except ValidationError as error:
        raise CloudError(
            f"{what} gave an answer that is none: update the stack, or the command line, to the same version"
        ) from error


def _check_can_be_stopped(run: RunHandle) -> None:
    with explained(f"looking for run {run.run_id}"):
        found = run.stack.clients.stepfunctions.describe_execution(executionArn=run.execution_arn)
    if found["status"] not in _STOPPED:
        raise InputError(f"run {run.run_id} can't be stopped: it has ended already ({found['status']})")


def _message(body: bytes) -> str:
    try:
        told: Any = json.loads(body)
        return one_line(f"{told['errorType']}: {told['errorMessage']}")
    except (ValueError, KeyError, TypeError):
        return one_line(body.decode(errors="replace"))

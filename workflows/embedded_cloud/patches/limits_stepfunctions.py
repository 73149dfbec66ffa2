"""Limits of Step Functions that moto does not have.

docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html
"""

from __future__ import annotations

import re
from typing import Any

from moto.stepfunctions.exceptions import InvalidName, NameTooLongException, ValidationException
from moto.stepfunctions.models import StepFunctionBackend
from moto.stepfunctions.parser.api import ExecutionFailedEventDetails
from moto.stepfunctions.parser.asl.component.state.exec.state_map.iteration import inline_iteration_component
from moto.stepfunctions.parser.asl.eval.environment import Environment
from moto.stepfunctions.parser.models import StepFunctionsParserBackend

from workflows.embedded_cloud.patches.context import CloudContext

DATA_BYTES = 262_144
DEFINITION_BYTES = 1_048_576
HISTORY_EVENTS = 25_000
NAME_CHARACTERS = 80
INLINE_ITERATIONS = 40

# docs.aws.amazon.com/step-functions/latest/apireference/API_StartExecution.html
_NOT_A_NAME = re.compile(r'[\s<>{}\[\]?*"#%\\^|~`$&,;:/\x00-\x1f\x7f-\x9f\ufffe\uffff]')


def limit_inputs_and_names(_context: CloudContext) -> None:
    """An execution's input has at most 256 KiB, and its name 80 characters, not all; moto takes more."""
    original = StepFunctionsParserBackend.start_execution

    def start_execution(
        self: Any, state_machine_arn: str, name: str | None = None, execution_input: Any = None
    ) -> Any:
        if name and len(name) > NAME_CHARACTERS:
            raise NameTooLongException(name)
        if name and _NOT_A_NAME.search(name):
            raise InvalidName(f"Invalid Name: '{name}'")
        if len(str(execution_input or "").encode()) > DATA_BYTES:
            raise ValidationException(
                "1 validation error detected: Value at 'input' failed to satisfy constraint: "
                f"Member must have length less than or equal to {DATA_BYTES}"
            )
        return original(self, state_machine_arn, name, execution_input)

    StepFunctionsParserBackend.start_execution = start_execution


def limit_definitions(_context: CloudContext) -> None:
    """A definition has at most 1 MiB; moto takes more."""
    original = StepFunctionBackend.create_state_machine

    def create_state_machine(self: Any, name: str, definition: str, *args: Any, **more: Any) -> Any:
        if len(definition.encode()) > DEFINITION_BYTES:
            raise ValidationException(
                "1 validation error detected: Value at 'definition' failed to satisfy constraint: "
                f"Member must have length less than or equal to {DEFINITION_BYTES}"
            )
        return original(self, name, definition, *args, **more)

    StepFunctionBackend.create_state_machine = create_state_machine


def limit_histories(_context: CloudContext) -> None:
    """An execution fails at its 25,000th event; in moto it goes on for ever."""
    original = Environment.is_running

    def is_running(self: Any) -> bool:
        # Ids count from 1, and the event that tells of the failure has its place too.
        if original(self) and self.event_manager._event_id_gen._next_id >= HISTORY_EVENTS:
            cause = f"The execution reached the maximum number of history events ({HISTORY_EVENTS})."
            self.set_error(ExecutionFailedEventDetails(error="States.Runtime", cause=cause))
        return bool(original(self))

    Environment.is_running = is_running


def limit_inline_maps(_context: CloudContext) -> None:
    """An inline Map runs at most 40 iterations at a time; moto runs all."""
    Inline = inline_iteration_component.InlineIterationComponent  # noqa: N806
    original = Inline._eval_body

    def eval_body(self: Any, env: Any) -> None:
        asked = env.stack[-1]
        asked.max_concurrency = min(asked.max_concurrency or INLINE_ITERATIONS, INLINE_ITERATIONS)
        original(self, env)

    Inline._eval_body = eval_body


PATCHES = (limit_inputs_and_names, limit_definitions, limit_histories, limit_inline_maps)

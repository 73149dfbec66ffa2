"""Sends what a rule or a schedule has for its target, tries again, and gives up to a dead-letter queue."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from moto.awslambda.models import lambda_backends
from moto.events.models import events_backends
from moto.sns.models import sns_backends
from moto.sqs.models import sqs_backends
from moto.stepfunctions.parser.models import stepfunctions_parser_backends

from workflows.embedded_cloud.invocation import Invocation
from workflows.embedded_cloud.lambda_functions import LambdaFunctions
from workflows.embedded_cloud.scheduler import Scheduler

LONGEST_RETRY_WAIT_S = 600.0
SERVICES = ("lambda", "states", "sns", "sqs")
"""Whose resources :meth:`EventTargets.send` reaches, and event buses."""


class TargetError(Exception):
    """A target did not take what it was sent.

    Attributes
    ----------
    code
        Of EventBridge: NO_RESOURCE, INVALID_JSON or ERROR_FROM_TARGET.
    service_code
        Of the service that was called.
    """

    def __init__(self, code: str, service_code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.service_code = service_code


@dataclass(frozen=True)
class RetryPolicy:
    """How often and how long a target is tried again; the defaults are AWS's."""

    maximum_retry_attempts: int = 185
    maximum_event_age_s: float = 86_400

    @classmethod
    def of(cls, target: Mapping[str, Any]) -> RetryPolicy:
        """Read the RetryPolicy of a target."""
        given = target.get("RetryPolicy") or {}
        return cls(
            int(given.get("MaximumRetryAttempts", cls.maximum_retry_attempts)),
            float(given.get("MaximumEventAgeInSeconds", cls.maximum_event_age_s)),
        )


GiveUp = Callable[[TargetError, int, str | None], None]


class EventTargets:
    """Reaches functions, state machines, topics, queues and event buses.

    Parameters
    ----------
    scheduler
        Waits between attempts, by the cloud's clock.
    """

    def __init__(self, functions: LambdaFunctions, scheduler: Scheduler) -> None:
        self._functions = functions
        self._scheduler = scheduler

    def send(self, target: Mapping[str, Any], payload: str) -> None:
        """Send once: functions are invoked asynchronously, executions are started.

        Parameters
        ----------
        target
            With Arn and, where they matter, SqsParameters or EventBridgeParameters.

        Raises
        ------
        TargetError
            If the target does not exist or refuses the payload.
        """
        arn = str(target["Arn"])
        _, _, service, region, account, resource = arn.split(":", 5)
        if service in ("lambda", "states", "events"):
            _check_json(payload)
        try:
            if service == "lambda":
                name, _, qualifier = resource.removeprefix("function:").partition(":")
                function = lambda_backends[account][region].get_function(name, qualifier or None)
                self._functions.invoke_async(function, Invocation(payload.encode()))
            elif service == "states":
                stepfunctions_parser_backends[account][region].start_execution(arn, None, payload)
            elif service == "sns":
                sns_backends[account][region].publish(payload, arn=arn)
            elif service == "sqs":
                group = (target.get("SqsParameters") or {}).get("MessageGroupId")
                sqs_backends[account][region].send_message(resource, payload, group_id=group)
            elif service == "events":
                given = target["EventBridgeParameters"]
                entry = {"Source": given["Source"], "DetailType": given["DetailType"], "Detail": payload}
                events_backends[account][region].put_events([{**entry, "EventBusName": resource}])
            else:
                raise TargetError(
                    "INVALID_PARAMETER", "ValidationException", f"{arn} cannot be a target here"
                )
        except TargetError:
            raise
        except Exception as error:
            raise _as_target_error(error) from error

    def send_until_taken(
        self,
        attempt: Callable[[int], None],
        policy: RetryPolicy,
        give_up: GiveUp,
        final: Collection[str],
    ) -> None:
        """Make attempts, with growing pauses by the cloud's clock, until one succeeds or the policy ends.

        Parameters
        ----------
        attempt
            Is given its number, from 1; raises :class:`TargetError`.
        give_up
            Is given the last error, the number of retries, and which limit of the policy was reached:
            None if the error is final.
        final
            Codes of errors that are not tried again.
        """
        began_s = self._scheduler.clock.now()

        def run(number: int) -> None:
            try:
                attempt(number)
            except TargetError as error:
                wait_s = min(2.0 ** (number - 1), LONGEST_RETRY_WAIT_S)
                if error.code in final:
                    give_up(error, number - 1, None)
                elif number > policy.maximum_retry_attempts:
                    give_up(error, number - 1, "MaximumRetryAttempts")
                elif self._scheduler.clock.now() + wait_s - began_s > policy.maximum_event_age_s:
                    give_up(error, number - 1, "MaximumEventAgeInSeconds")
                else:
                    self._scheduler.later(wait_s, lambda: run(number + 1))

        run(1)

    def bury(self, target: Mapping[str, Any], body: str, attributes: Mapping[str, str]) -> None:
        """Send what no attempt delivered to the DeadLetterConfig's queue of a target, if it has one."""
        queue_arn = (target.get("DeadLetterConfig") or {}).get("Arn")
        if queue_arn:
            _, _, _, region, account, queue = str(queue_arn).split(":", 5)
            sqs_backends[account][region].send_message(
                queue,
                body,
                message_attributes={
                    name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()
                },
            )


def _check_json(payload: str) -> None:
    try:
        json.loads(payload)
    except ValueError as error:
        raise TargetError("INVALID_JSON", "InvalidRequestContentException", str(error)) from error


def _as_target_error(error: Exception) -> TargetError:
    service_code = str(getattr(error, "error_type", "") or getattr(error, "code", "") or type(error).__name__)
    message = str(getattr(error, "message", "") or error)
    missing = any(word in type(error).__name__ for word in ("DoesNotExist", "NotFound", "Unknown"))
    return TargetError("NO_RESOURCE" if missing else "ERROR_FROM_TARGET", service_code, message)

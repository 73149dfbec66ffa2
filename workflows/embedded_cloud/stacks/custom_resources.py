"""What CloudFormation asks a custom resource's provider, and makes of its answer.

docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/crpg-ref-requests.html and crpg-ref-responses.html.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from typing import Any

from moto.awslambda.models import lambda_backends
from moto.sns.models import sns_backends

from workflows.embedded_cloud.invocation import Invocation
from workflows.embedded_cloud.lambda_functions import LambdaFunctions
from workflows.embedded_cloud.stacks.cancellation import CANCELLED, is_cancelled
from workflows.embedded_cloud.stacks.failures import ResourceFailed, reason_of
from workflows.embedded_cloud.stacks.response_inbox import RESPONSE_LIMIT_BYTES, ResponseInbox

CUSTOM_RESOURCE = "AWS::CloudFormation::CustomResource"
DEFAULT_TIMEOUT_S = 3600
_SUBJECT = "AWS CloudFormation custom resource request"


def is_custom(resource_type: str) -> bool:
    """Whether a provider makes resources of the type."""
    return resource_type.startswith("Custom::") or resource_type == CUSTOM_RESOURCE


@dataclass(frozen=True)
class Subject:
    """The custom resource that a request is about."""

    stack_id: str
    logical_id: str
    resource_type: str


@dataclass(frozen=True)
class Answer:
    """What a provider answered."""

    succeeded: bool
    reason: str
    physical_id: str | None
    data: dict[str, Any]


class ProviderMissing(ResourceFailed):
    """The request could not be sent, so that there is nothing to delete either."""


class Providers:
    """Sends requests to the providers of custom resources and waits for the answers.

    Parameters
    ----------
    functions
        Functions that a ServiceToken may name.
    inbox
        Where they answer.
    """

    def __init__(self, functions: LambdaFunctions, inbox: ResponseInbox) -> None:
        self._functions = functions
        self._inbox = inbox

    def request(
        self, request_type: str, subject: Subject, properties: dict[str, Any], **more: Any
    ) -> tuple[Answer, str]:
        """Ask and wait; return the answer and the request's id.

        Parameters
        ----------
        request_type
            Create, Update or Delete.
        properties
            ServiceToken and all others.
        more
            Further members of the request: PhysicalResourceId, OldResourceProperties.

        Raises
        ------
        ResourceFailed
            If the provider is not there, does not answer in time, or answers nonsense.
        """
        request_id, url = str(uuid.uuid4()), self._inbox.open()
        event = {
            "RequestType": request_type,
            "ServiceToken": properties.get("ServiceToken"),
            "ResponseURL": url,
            "StackId": subject.stack_id,
            "RequestId": request_id,
            "LogicalResourceId": subject.logical_id,
            "ResourceType": subject.resource_type,
            "ResourceProperties": as_strings(properties),
            **more,
        }
        self._send(str(properties.get("ServiceToken")), event)
        timeout_s = int(properties.get("ServiceTimeout", DEFAULT_TIMEOUT_S))
        # A deletion is not given up: it is how what was begun ends.
        given_up = is_cancelled if request_type != "Delete" else lambda: False
        body = self._inbox.wait(url, timeout_s, given_up)
        if body is None:
            raise ResourceFailed(
                CANCELLED
                if given_up()
                else "CloudFormation did not receive a response from your Custom Resource. Please check your "
                f"logs for requestId [{request_id}]."
            )
        return read_answer(body), request_id

    def _send(self, service_token: str, event: dict[str, Any]) -> None:
        payload = json.dumps(event)
        parts = service_token.split(":")
        try:
            _, _, service, region, account = parts[:5]
            if service == "sns":
                sns_backends[account][region].publish(payload, arn=service_token, subject=_SUBJECT)
                return
            function = lambda_backends[account][region].get_function(service_token)
        except ValueError:
            raise ProviderMissing(f"Invalid service token: {service_token}") from None
        except Exception as error:
            raise ProviderMissing(reason_of(error)) from error
        self._functions.invoke_async(function, Invocation(payload.encode()))


def read_answer(body: bytes) -> Answer:
    """Take a provider's answer apart.

    Raises
    ------
    ResourceFailed
        If it is not one.
    """
    if len(body) > RESPONSE_LIMIT_BYTES:
        raise ResourceFailed("Response object is too long.")
    try:
        answer = json.loads(body)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise ResourceFailed("Invalid Response object: Response is not a JSON object")
    if answer.get("Status") not in ("SUCCESS", "FAILED"):
        raise ResourceFailed("Invalid Response object: Value of property Status must be SUCCESS or FAILED")
    data = answer.get("Data") or {}
    if not isinstance(data, dict):
        raise ResourceFailed("Invalid Response object: Value of property Data must be an object")
    physical_id = answer.get("PhysicalResourceId")
    return Answer(
        succeeded=answer["Status"] == "SUCCESS",
        reason=str(answer.get("Reason") or ""),
        physical_id=None if physical_id is None else str(physical_id),
        data=data,
    )


def as_strings(value: Any) -> Any:
    """Return properties as CloudFormation hands them on: numbers and booleans become strings."""
    if isinstance(value, dict):
        return {key: as_strings(item) for key, item in value.items()}
    if isinstance(value, list):
        return [as_strings(item) for item in value]
    if isinstance(value, bool):
        return str(value).lower()
    return value if value is None or isinstance(value, str) else str(value)

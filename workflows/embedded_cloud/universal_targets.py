"""Universal targets of schedules, any operation of a service: "arn:aws:scheduler:::aws-sdk:sqs:sendMessage".

docs.aws.amazon.com/scheduler/latest/UserGuide/managing-targets-universal.html
"""

from __future__ import annotations

import json
from typing import Any

from botocore import xform_name
from botocore.exceptions import BotoCoreError, ClientError
from botocore.model import OperationNotFoundError

from workflows.embedded_cloud.launcher import client_for

PREFIX = "arn:aws:scheduler:::aws-sdk:"
_BOTO3_NAMES = {"sfn": "stepfunctions", "eventbridge": "events", "cloudwatchlogs": "logs"}


class UniversalCallError(Exception):
    """The operation does not exist or failed.

    Attributes
    ----------
    error_type
        AWS's code of the error.
    """

    def __init__(self, error_type: str, message: str) -> None:
        super().__init__(message)
        self.error_type = error_type


def call(endpoint_url: str, arn: str, payload: str) -> None:
    """Call the operation that a universal target names, with a JSON object of its parameters.

    The first letter of a parameter may be large or small: SDKs differ.

    Raises
    ------
    UniversalCallError
        If it fails.
    """
    service, _, action = arn.removeprefix(PREFIX).partition(":")
    given = json.loads(payload or "{}")
    try:
        client = client_for(endpoint_url, _BOTO3_NAMES.get(service, service))
        operation = action[:1].upper() + action[1:]
        shape = client.meta.service_model.operation_model(operation).input_shape
        names = {name.lower(): name for name in (shape.members if shape else ())}
        request: dict[str, Any] = {names.get(name.lower(), name): value for name, value in given.items()}
        getattr(client, xform_name(operation))(**request)
    except ClientError as error:
        raise UniversalCallError(
            error.response["Error"]["Code"], error.response["Error"]["Message"]
        ) from error
    except (BotoCoreError, OperationNotFoundError) as error:
        raise UniversalCallError("ValidationException", str(error)) from error

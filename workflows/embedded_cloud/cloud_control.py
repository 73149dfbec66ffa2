"""Cloud Control's GetResource for function URLs, which SAM CLI asks for every function that it lists.

docs.aws.amazon.com/cloudcontrolapi/latest/APIReference/API_GetResource.html; moto has no Cloud Control.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable
from typing import Any

from moto.awslambda.exceptions import UnknownFunctionException
from moto.awslambda.models import lambda_backends

from workflows.embedded_cloud.lambda_api import ACCOUNT_ID, StartResponse

_TARGET = "CloudApiService."
_FUNCTION_URL = "AWS::Lambda::Url"


class CloudControlApi:
    """WSGI application for the requests that :meth:`takes` names."""

    def takes(self, environ: dict[str, Any]) -> bool:
        """Whether the request is one of Cloud Control's."""
        return str(environ.get("HTTP_X_AMZ_TARGET", "")).startswith(_TARGET)

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        request = json.loads(environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)) or b"{}")
        operation = environ["HTTP_X_AMZ_TARGET"].removeprefix(_TARGET)
        type_name, identifier = str(request.get("TypeName")), str(request.get("Identifier"))
        if operation != "GetResource" or type_name != _FUNCTION_URL:
            message = (
                f"{operation} of {type_name}: the embedded cloud has GetResource of {_FUNCTION_URL} alone"
            )
            return _send(start_response, "400 Bad Request", _error("UnsupportedActionException", message))
        properties = _function_url(environ, identifier)
        if properties is None:
            message = f"Resource of type '{type_name}' with identifier '{identifier}' was not found."
            return _send(start_response, "400 Bad Request", _error("ResourceNotFoundException", message))
        description = {"Identifier": identifier, "Properties": json.dumps(properties)}
        answer = {"TypeName": type_name, "ResourceDescription": description}
        return _send(start_response, "200 OK", answer)


def _function_url(environ: dict[str, Any], function: str) -> dict[str, Any] | None:
    credential = environ.get("HTTP_AUTHORIZATION", "").partition("Credential=")[2].split("/")
    region = credential[2] if len(credential) > 2 else "us-east-1"
    try:
        config = lambda_backends[ACCOUNT_ID][region].get_function(function).url_config
    except UnknownFunctionException:
        return None
    return None if config is None else dict(config.to_dict())


def _error(code: str, message: str) -> dict[str, str]:
    return {"__type": code, "Message": message}


def _send(start_response: StartResponse, status: str, answer: dict[str, Any]) -> Iterable[bytes]:
    body = json.dumps(answer).encode()
    headers = [
        ("Content-Type", "application/x-amz-json-1.0"),
        ("Content-Length", str(len(body))),
        ("x-amzn-RequestId", str(uuid.uuid4())),
    ]
    start_response(status, headers)
    return [body]

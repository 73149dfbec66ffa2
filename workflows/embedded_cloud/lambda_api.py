"""The HTTP operations of Lambda that moto cannot answer: Invoke and GetAccountSettings."""

from __future__ import annotations

import base64
import json
import re
import uuid
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs, unquote

from moto.awslambda.models import LambdaFunction, lambda_backends
from moto.core.exceptions import ServiceException
from werkzeug.exceptions import HTTPException

from workflows.embedded_cloud.errors import EmbeddedCloudError
from workflows.embedded_cloud.invocation import (
    ASYNC_PAYLOAD_LIMIT_BYTES,
    SYNC_PAYLOAD_LIMIT_BYTES,
    Invocation,
)
from workflows.embedded_cloud.lambda_functions import LambdaFunctions
from workflows.embedded_cloud.lambda_service import TooManyRequestsError

_REQUEST_ID = "x-amzn-RequestId"
ACCOUNT_ID = "123456789012"
_INVOKE = re.compile(r"/2015-03-31/functions/(?P<name>.+)/invocations/?")
_ACCOUNT_SETTINGS = re.compile(r"/2016-08-19/account-settings/?")

StartResponse = Callable[[str, list[tuple[str, str]]], object]


class LambdaApi:
    """WSGI application for the paths that :meth:`takes` names."""

    def __init__(self, functions: LambdaFunctions) -> None:
        self._functions = functions

    def takes(self, environ: dict[str, Any]) -> bool:
        """Whether the request is one of ours."""
        path, method = environ.get("PATH_INFO", ""), environ["REQUEST_METHOD"]
        return bool(
            (method == "POST" and _INVOKE.fullmatch(path))
            or (method == "GET" and _ACCOUNT_SETTINGS.fullmatch(path))
        )

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        body = _read_body(environ)
        match = _INVOKE.fullmatch(environ["PATH_INFO"])
        if match is None:
            return _send(start_response, "200 OK", json.dumps(self._account_settings()).encode(), [])
        try:
            function = _find_function(environ, unquote(match["name"]))
            return self._invoke(environ, function, body, start_response)
        except (ServiceException, HTTPException) as error:
            message = str(getattr(error, "message", error))
            return _send_error(start_response, "404 Not Found", "ResourceNotFoundException", message)
        except EmbeddedCloudError as error:
            return _send_error(start_response, "502 Bad Gateway", "InvalidRuntimeException", str(error))

    def _invoke(
        self, environ: dict[str, Any], function: LambdaFunction, body: bytes, start_response: StartResponse
    ) -> Iterable[bytes]:
        kind = environ.get("HTTP_X_AMZ_INVOCATION_TYPE", "RequestResponse")
        limit_bytes = ASYNC_PAYLOAD_LIMIT_BYTES if kind == "Event" else SYNC_PAYLOAD_LIMIT_BYTES
        if len(body) > limit_bytes:
            message = f"Request must be smaller than {limit_bytes} bytes for the InvokeFunction operation"
            return _send_error(
                start_response, "413 Request Entity Too Large", "RequestTooLargeException", message
            )
        try:
            json.loads(body or b"{}")
        except ValueError as error:
            message = f"Could not parse request body into json: {error}"
            return _send_error(start_response, "400 Bad Request", "InvalidRequestContentException", message)
        if kind == "DryRun":
            return _send(start_response, "204 No Content", b"", [])
        invocation = Invocation(
            payload=body or b"{}",
            client_context=_client_context(environ),
            trace_id=environ.get("HTTP_X_AMZN_TRACE_ID", ""),
        )
        headers = [(_REQUEST_ID, invocation.request_id)]
        if kind == "Event":
            self._functions.invoke_async(function, invocation)
            return _send(start_response, "202 Accepted", b"", headers)
        try:
            outcome = self._functions.invoke(function, invocation)
        except TooManyRequestsError as error:
            return _send_error(
                start_response,
                "429 Too Many Requests",
                "TooManyRequestsException",
                str(error),
                Reason=error.reason,
                Type="User",
            )
        headers.append(("X-Amz-Executed-Version", str(function.version)))
        if outcome.function_error:
            headers.append(("X-Amz-Function-Error", outcome.function_error))
        if environ.get("HTTP_X_AMZ_LOG_TYPE") == "Tail":
            headers.append(("X-Amz-Log-Result", base64.b64encode(outcome.log_tail).decode()))
        return _send(start_response, "200 OK", outcome.payload, headers)

    def _account_settings(self) -> dict[str, Any]:
        functions = list(lambda_backends[ACCOUNT_ID]["us-east-1"].list_functions())
        reserved = sum(int(f.reserved_concurrency or 0) for f in functions)
        return {
            "AccountLimit": {
                "TotalCodeSize": 80_530_636_800,
                "CodeSizeUnzipped": 262_144_000,
                "CodeSizeZipped": 52_428_800,
                "ConcurrentExecutions": self._functions.concurrency,
                "UnreservedConcurrentExecutions": max(0, self._functions.concurrency - reserved),
            },
            "AccountUsage": {
                "TotalCodeSize": sum(int(f.code_size) for f in functions),
                "FunctionCount": len(functions),
            },
        }


def _read_body(environ: dict[str, Any]) -> bytes:
    chunked = environ.get("HTTP_TRANSFER_ENCODING", "").lower() == "chunked"
    size = -1 if chunked else int(environ.get("CONTENT_LENGTH") or 0)
    body: bytes = environ["wsgi.input"].read(size)
    return body


def _find_function(environ: dict[str, Any], name: str) -> LambdaFunction:
    credential = environ.get("HTTP_AUTHORIZATION", "").partition("Credential=")[2].split("/")
    region = credential[2] if len(credential) > 2 else "us-east-1"
    query = parse_qs(environ.get("QUERY_STRING", ""))
    qualifier = query.get("Qualifier", [None])[0]
    if qualifier == "$LATEST":
        qualifier = None
    return lambda_backends[ACCOUNT_ID][region].get_function(name, qualifier)


def _client_context(environ: dict[str, Any]) -> str:
    encoded = environ.get("HTTP_X_AMZ_CLIENT_CONTEXT", "")
    return base64.b64decode(encoded).decode() if encoded else ""


def _send(
    start_response: StartResponse, status: str, body: bytes, headers: list[tuple[str, str]]
) -> Iterable[bytes]:
    fixed = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    if not any(name == _REQUEST_ID for name, _ in headers):
        fixed.append((_REQUEST_ID, str(uuid.uuid4())))
    start_response(status, [*fixed, *headers])
    return [body]


def _send_error(
    start_response: StartResponse, status: str, code: str, message: str, **more: str
) -> Iterable[bytes]:
    body = json.dumps({"Type": "User", "message": message, "Message": message, **more}).encode()
    return _send(start_response, status, body, [("x-amzn-ErrorType", code)])

"""How each service says that it will not, or can not: error codes, statuses and forms."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable
from xml.sax.saxutils import escape

from workflows.embedded_cloud.lambda_api import StartResponse

# (code, status) of what comes too fast, and of a service that is not well: each service's API reference.
_THROTTLED = {
    "s3": ("SlowDown", "503 Slow Down"),
    "sns": ("Throttled", "429 Too Many Requests"),
    "sqs": ("RequestThrottled", "403 Forbidden"),
    "lambda": ("TooManyRequestsException", "429 Too Many Requests"),
}
_UNAVAILABLE = {
    "s3": ("ServiceUnavailable", "503 Service Unavailable"),
    "sns": ("InternalError", "500 Internal Server Error"),
    "sqs": ("InternalError", "500 Internal Server Error"),
    "lambda": ("ServiceException", "500 Internal Server Error"),
}
_OTHERS = {
    "throttle": ("ThrottlingException", "400 Bad Request"),
    "unavailable": ("ServiceUnavailable", "503 Service Unavailable"),
}


def refuse(service: str, fault: str, start_response: StartResponse) -> Iterable[bytes]:
    """Answer with the service's own error for "throttle" or "unavailable"."""
    table = _THROTTLED if fault == "throttle" else _UNAVAILABLE
    code, status = table.get(service, _OTHERS[fault])
    message, request = "Injected by the embedded cloud.", str(uuid.uuid4())
    headers = [("x-amzn-RequestId", request)]
    if service in {"s3", "sns"}:
        error = f"<Code>{code}</Code><Message>{escape(message)}</Message>"
        if service == "sns":
            error = f"<ErrorResponse><Error><Type>Receiver</Type>{error}</Error>"
            body = f"{error}<RequestId>{request}</RequestId></ErrorResponse>".encode()
        else:
            body = f"<Error>{error}<RequestId>{request}</RequestId></Error>".encode()
        headers.append(("Content-Type", "text/xml"))
    else:
        body = json.dumps({"__type": code, "message": message, "Reason": code}).encode()
        headers += [("Content-Type", "application/json"), ("x-amzn-ErrorType", code)]
        if service == "sqs":
            headers.append(("x-amzn-query-error", f"{code};Receiver"))
    start_response(status, [*headers, ("Content-Length", str(len(body)))])
    return [body]

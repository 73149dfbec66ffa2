"""awslambdaric's native module `runtime_client`, in Python: for interpreters that cannot load the installed one.

Speaks the Lambda Runtime API (docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html) over one kept connection.
"""

import http.client
import os

_PREFIX = "/2018-06-01/runtime/invocation"
_state = {"agent": "", "connection": None}


def initialize_client(user_agent):
    _state["agent"] = user_agent


def _request(method, path, body=None, headers=None):
    connection = _state["connection"]
    if connection is None:
        connection = _state["connection"] = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
    connection.request(method, path, body, {"User-Agent": _state["agent"], **(headers or {})})
    response = connection.getresponse()
    data = response.read()
    if response.status >= 300:
        raise RuntimeError(f"Runtime API answered {response.status}: {data[:200]!r}")
    return data, response


def next():
    data, response = _request("GET", f"{_PREFIX}/next")
    return data, {name: value for name, value in response.getheaders()}


def post_invocation_result(invoke_id, content, content_type, invocation_id=None):
    _request("POST", f"{_PREFIX}/{invoke_id}/response", content, {"Content-Type": content_type})


def post_error(invoke_id, error_response_data, xray_fault, invocation_id=None):
    body = error_response_data.encode() if isinstance(error_response_data, str) else error_response_data
    _request("POST", f"{_PREFIX}/{invoke_id}/error", body, {"Content-Type": "application/json"})

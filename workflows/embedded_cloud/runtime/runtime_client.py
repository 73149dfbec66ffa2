"""awslambdaric's native module `runtime_client` in Python, for interpreters that cannot load that one.

Speaks the Lambda Runtime API (docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html) over one connection.
"""

import http.client
import os

_PREFIX = "/2018-06-01/runtime/invocation"


class _Connection:
    """The connection to the Runtime API, opened at first use."""

    def __init__(self) -> None:
        self.agent = ""
        self._http: http.client.HTTPConnection | None = None

    def request(
        self, method: str, path: str, body: bytes | None = None, content_type: str = "application/json"
    ) -> tuple[bytes, dict[str, str]]:
        if self._http is None:
            self._http = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
        self._http.request(method, path, body, {"User-Agent": self.agent, "Content-Type": content_type})
        response = self._http.getresponse()
        data = response.read()
        if response.status >= http.client.MULTIPLE_CHOICES:
            raise RuntimeError(f"Runtime API answered {response.status}: {data[:200]!r}")
        return data, dict(response.getheaders())


_connection = _Connection()


def initialize_client(user_agent: str) -> None:
    """Set what the client calls itself."""
    _connection.agent = user_agent


def next() -> tuple[bytes, dict[str, str | int]]:  # noqa: A001
    """Wait for an invocation: its payload and headers, the deadline as a number."""
    payload, headers = _connection.request("GET", f"{_PREFIX}/next")
    return payload, {**headers, "Lambda-Runtime-Deadline-Ms": int(headers["Lambda-Runtime-Deadline-Ms"])}


def post_invocation_result(
    invoke_id: str,
    content: bytes,
    content_type: str,
    _invocation_id: str | None = None,
) -> None:
    """Send a handler's reply."""
    _connection.request("POST", f"{_PREFIX}/{invoke_id}/response", content, content_type)


def post_error(
    invoke_id: str,
    error_response_data: str | bytes,
    _xray_fault: str,
    _invocation_id: str | None = None,
) -> None:
    """Send a handler's error."""
    body = error_response_data.encode() if isinstance(error_response_data, str) else error_response_data
    _connection.request("POST", f"{_PREFIX}/{invoke_id}/error", body)

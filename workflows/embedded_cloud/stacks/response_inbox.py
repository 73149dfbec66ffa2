"""Where custom resources PUT their answers: URLs of this cloud that nobody can guess."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

_PREFIX = "/.cloudformation/responses/"
_TOKEN_BYTES = 32
_LOOK_S = 0.05
RESPONSE_LIMIT_BYTES = 4096
"""docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/crpg-ref-responses.html."""

StartResponse = Callable[[str, list[tuple[str, str]]], object]


class ResponseInbox:
    """WSGI application for the paths that :meth:`takes` names.

    Parameters
    ----------
    endpoint_url
        The cloud's own address.
    """

    def __init__(self, endpoint_url: str) -> None:
        self._endpoint_url = endpoint_url
        self._answers: dict[str, bytes | None] = {}
        self._arrived = threading.Condition()

    def open(self) -> str:
        """Return a new URL to which one answer may be PUT."""
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        with self._arrived:
            self._answers[token] = None
        return f"{self._endpoint_url}{_PREFIX}{token}"

    def wait(self, url: str, timeout_s: float, given_up: Callable[[], bool]) -> bytes | None:
        """Return what was PUT to a URL, and close it; None if nothing was in time.

        Parameters
        ----------
        given_up
            Whether to wait no longer.
        """
        token = url.rsplit("/", 1)[1]
        deadline = time.monotonic() + timeout_s
        with self._arrived:
            while self._answers[token] is None and time.monotonic() < deadline and not given_up():
                self._arrived.wait(min(_LOOK_S, max(0.0, deadline - time.monotonic())))
            return self._answers.pop(token)

    def takes(self, environ: dict[str, Any]) -> bool:
        """Whether the request is one of ours."""
        return bool(environ.get("PATH_INFO", "").startswith(_PREFIX))

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        chunked = environ.get("HTTP_TRANSFER_ENCODING", "").lower() == "chunked"
        size = RESPONSE_LIMIT_BYTES + 1 if chunked else int(environ.get("CONTENT_LENGTH") or 0)
        body: bytes = environ["wsgi.input"].read(size)
        status = "200 OK" if self._put(environ, body) else "403 Forbidden"
        start_response(status, [("Content-Length", "0")])
        return [b""]

    def _put(self, environ: dict[str, Any], body: bytes) -> bool:
        token = environ["PATH_INFO"].removeprefix(_PREFIX)
        with self._arrived:
            if environ["REQUEST_METHOD"] != "PUT" or token not in self._answers:
                return False
            if self._answers[token] is None:
                self._answers[token] = body
            self._arrived.notify_all()
            return True

"""The Lambda Runtime API of one execution environment, on a loopback port of its own.

docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html, version 2018-06-01.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from workflows.embedded_cloud.invocation import REPLY_LIMIT_BYTES

_PATH_PREFIX = "/2018-06-01/runtime/"
_REASONS = {
    200: "OK",
    202: "Accepted",
    400: "Bad Request",
    404: "Not Found",
    410: "Gone",
    413: "Payload Too Large",
}


class RuntimeEvents(Protocol):
    """The execution environment, as its runtime sees it."""

    def next_invocation(self) -> tuple[Mapping[str, str], bytes] | None:
        """Block until there is an invocation: its headers and payload; None when the environment ends."""

    def respond(self, request_id: str, payload: bytes) -> bool:
        """Take a handler's reply; False if no such invocation is running."""

    def fail(self, request_id: str, payload: bytes) -> bool:
        """Take a handler's error; False if no such invocation is running."""

    def fail_to_respond(self, request_id: str) -> None:
        """The reply was larger than Lambda allows."""

    def fail_to_initialize(self, payload: bytes) -> None:
        """Take the error that kept the handler from being loaded."""


@dataclass(frozen=True)
class _Request:
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class RuntimeApi:
    """A small HTTP/1.1 server for one client, the runtime."""

    def __init__(self, events: RuntimeEvents) -> None:
        self._events = events
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, name=f"runtime-api-{self.address}", daemon=True).start()

    def close(self) -> None:
        """Stop listening; open connections end with their process."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError), connection, connection.makefile("rb") as stream:
            while True:
                request = _read_request(stream, connection)
                if request is None:
                    return
                status, headers, body = self._answer(request)
                connection.sendall(_response(status, headers, body))

    def _answer(self, request: _Request) -> tuple[int, Mapping[str, str], bytes]:
        if not request.path.startswith(_PATH_PREFIX):
            return 404, {}, b""
        match request.method, request.path[len(_PATH_PREFIX) :].split("/"):
            case "GET", ["invocation", "next"]:
                found = self._events.next_invocation()
                return (410, {}, b"") if found is None else (200, *found)
            case "POST", ["invocation", request_id, "response"]:
                if len(request.body) > REPLY_LIMIT_BYTES:
                    self._events.fail_to_respond(request_id)
                    return 413, {}, b'{"errorType":"RequestEntityTooLarge"}'
                return _accepted(self._events.respond(request_id, request.body))
            case "POST", ["invocation", request_id, "error"]:
                return _accepted(self._events.fail(request_id, request.body))
            case "POST", ["init", "error"]:
                self._events.fail_to_initialize(request.body)
                return _accepted(True)
            case _:
                return 404, {}, b""


def _accepted(known: bool) -> tuple[int, Mapping[str, str], bytes]:
    return (202, {}, b'{"status":"OK"}') if known else (400, {}, b'{"errorType":"InvalidRequestID"}')


def _read_request(stream: BinaryIO, connection: socket.socket) -> _Request | None:
    line = stream.readline(65536)
    if not line.strip():
        return None
    method, path, _ = line.decode("latin-1").split(" ", 2)
    headers: dict[str, str] = {}
    while (line := stream.readline(2_000_000)).strip():
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()
    if headers.get("expect", "").lower() == "100-continue":
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    return _Request(method, path.partition("?")[0], headers, _read_body(stream, headers))


def _read_body(stream: BinaryIO, headers: Mapping[str, str]) -> bytes:
    if headers.get("transfer-encoding", "").lower() != "chunked":
        return stream.read(int(headers.get("content-length", "0")))
    chunks: list[bytes] = []
    while size := int(stream.readline().split(b";")[0], 16):
        chunks.append(stream.read(size))
        stream.readline()
    stream.readline()
    return b"".join(chunks)


def _response(status: int, headers: Mapping[str, str], body: bytes) -> bytes:
    lines = [f"HTTP/1.1 {status} {_REASONS.get(status, '')}", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body

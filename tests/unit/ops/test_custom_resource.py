"""CloudFormation gets its answer, whatever happens."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from lamella import custom_resource
from lamella.custom_resource import serve


class Context:
    """What Lambda passes to a handler, with a second left after what is kept for the answer."""

    def get_remaining_time_in_millis(self) -> int:
        return int((custom_resource.ENDING_S + 1) * 1000)


class Server:
    """Where CloudFormation waits for answers; ``refusals`` are given first."""

    def __init__(self) -> None:
        self.refusals: list[int] = []
        self.requests: list[tuple[dict[str, str], dict[str, Any]]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.requests.append((dict(self.headers), json.loads(body)))
                self.send_response(outer.refusals.pop(0) if outer.refusals else 200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.http = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/?signature=x"

    @property
    def answer(self) -> dict[str, Any]:
        return self.requests[-1][1]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(custom_resource.time, "sleep", lambda _: None)
    made = Server()
    thread = threading.Thread(target=made.http.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield made
    made.http.shutdown()
    made.http.server_close()


def request(server: Server, kind: str) -> dict[str, Any]:
    return {
        "RequestType": kind,
        "ResponseURL": server.url,
        "StackId": "arn:stack",
        "RequestId": "id",
        "LogicalResourceId": "Cleanup",
        "ResourceProperties": {},
    }


@pytest.mark.parametrize("kind", ["Create", "Update"])
def test_only_a_deletion_has_something_done(server: Server, kind: str) -> None:
    serve(request(server, kind), Context(), "cleanup", lambda _: pytest.fail("was called"))
    ((headers, answer),) = server.requests
    assert answer == {
        "Status": "SUCCESS",
        "Reason": "",
        "PhysicalResourceId": "cleanup",
        "StackId": "arn:stack",
        "RequestId": "id",
        "LogicalResourceId": "Cleanup",
    }
    # The URL is signed for a request without one.
    assert headers["Content-Type"] == ""


def test_what_a_deletion_raises_is_the_reason_shortened(server: Server) -> None:
    def delete(_: Any) -> None:
        raise ValueError("no\n" + "x" * 9000)

    serve(request(server, "Delete"), Context(), "cleanup", delete)
    assert server.answer["Status"] == "FAILED"
    assert server.answer["Reason"].startswith("ValueError: no")
    assert len(json.dumps(server.answer)) < 4096


def test_a_deletion_that_hangs_is_answered_before_the_function_is_ended(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Context, "get_remaining_time_in_millis", lambda _: 45_200)
    forever = threading.Event()
    serve(request(server, "Delete"), Context(), "cleanup", lambda _: bool(forever.wait(20)))
    forever.set()
    assert server.answer["Status"] == "FAILED"
    assert "delete the stack again" in server.answer["Reason"]


def test_an_answer_that_is_not_taken_is_given_again(server: Server) -> None:
    server.refusals = [503, 500]
    serve(request(server, "Delete"), Context(), "cleanup", lambda _: None)
    assert [answer["Status"] for _, answer in server.requests] == ["SUCCESS"] * 3


def test_an_answer_that_is_never_taken_fails_the_invocation(server: Server) -> None:
    server.refusals = [403] * custom_resource.TRIES
    with pytest.raises(OSError, match="403"):
        serve(request(server, "Create"), Context(), "cleanup", lambda _: None)

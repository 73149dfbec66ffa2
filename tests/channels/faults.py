"""AWS clients whose service misbehaves as AWS says that it may: by botocore's hooks, below our own code."""

from __future__ import annotations

import io
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.exceptions import ReadTimeoutError
from botocore.httpsession import URLLib3Session

from lamella.metering import Meter
from workflows.embedded_cloud import EmbeddedCloud
from workflows.embedded_cloud.launcher import client_for

# Calls that bring something to a peer.
SENDING = ("PublishBatch", "SendMessageBatch", "PutObject")
BATCHES = ("PublishBatch", "SendMessageBatch")
# How each service refuses a call: status, headers, body.
BUSY: dict[str, tuple[int, dict[str, str], str]] = {
    "sns": (
        400,
        {},
        "<ErrorResponse><Error><Type>Sender</Type><Code>ThrottledException</Code>"
        "<Message>Rate exceeded</Message></Error><RequestId>1</RequestId></ErrorResponse>",
    ),
    "sqs": (
        400,
        {"x-amzn-query-error": "RequestThrottled;Sender", "content-type": "application/x-amz-json-1.0"},
        '{"__type": "com.amazonaws.sqs#RequestThrottled", "message": "Rate exceeded"}',
    ),
    "s3": (
        503,
        {},
        "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>",
    ),
}
DENIED = {
    service: (
        403,
        headers,
        body.replace("ThrottledException", "AuthorizationError").replace("SlowDown", "No"),
    )
    for service, (_, headers, body) in BUSY.items()
} | {"sqs": (403, {}, '{"__type": "com.amazonaws.sqs#AccessDeniedException", "message": "no"}')}


class _Body(io.BytesIO):
    """A body as urllib3 would give it."""

    def stream(self, *_: Any, **__: Any) -> Iterator[bytes]:
        yield self.read()


class Service:
    """Clients of one gang, what they were asked, and what goes wrong with it.

    Attributes
    ----------
    struck
        How often something was made to go wrong.
    """

    def __init__(self, cloud: EmbeddedCloud | None = None, *services: str) -> None:
        self.meter = Meter()
        self.struck = 0
        self._clients: dict[str, Any] = {}
        self._again = URLLib3Session()
        self._lock = threading.Lock()
        self._before: Callable[[str, str, AWSPreparedRequest], AWSResponse | None] | None = None
        self._refuse = 0
        self._disorder = False
        self._held: list[Any] = []
        for service in services:
            assert cloud is not None
            # As a worker's clients retry (lamella.runtime).
            client = client_for(cloud.endpoint_url, service, retries={"mode": "standard", "max_attempts": 6})
            client.meta.events.register("before-send", self._before_send)
            client.meta.events.register("provide-client-params", self._leave_out)
            client.meta.events.register("after-call", self._answered)
            self.meter.attach(client)
            self._clients[service] = client

    def client(self, service: str) -> Any:
        return self._clients[service]

    @property
    def can_refuse(self) -> bool:
        """Whether there is anyone who could."""
        return bool(self._clients)

    def check_struck(self, *services: str) -> None:
        """Fail a test in which nothing went wrong, unless there is no service where it could."""
        if self._clients.keys() & set(services or self._clients):
            assert self.struck

    def be_busy(self, times: int) -> None:
        """Refuse each operation so often, as too much."""
        asked: Counter[str] = Counter()

        def before(service: str, operation: str, _: AWSPreparedRequest) -> AWSResponse | None:
            asked[operation] += 1
            return self._answer(BUSY[service]) if asked[operation] <= times else None

        self._before = before

    def deny_sending(self) -> None:
        """Refuse for good what would bring something to a peer."""

        def before(service: str, operation: str, _: AWSPreparedRequest) -> AWSResponse | None:
            return self._answer(DENIED[service]) if operation in SENDING else None

        self._before = before

    def lose_answers(self, times: int) -> None:
        """Do what is asked, so often, and never say so."""
        asked: Counter[str] = Counter()

        def before(_: str, operation: str, request: AWSPreparedRequest) -> AWSResponse | None:
            asked[operation] += 1
            if operation in SENDING and asked[operation] <= times:
                self._do(request)
                raise ReadTimeoutError(endpoint_url=request.url)
            return None

        self._before = before

    def repeat_itself(self) -> None:
        """Do twice what would bring something to a peer."""

        def before(_: str, operation: str, request: AWSPreparedRequest) -> AWSResponse | None:
            if operation in SENDING:
                self._do(request)
            return None

        self._before = before

    def be_out_of_order(self) -> None:
        """Hold back the first messages that come, and give the others backwards."""
        self._disorder = True

    def refuse_entries(self, times: int) -> None:
        """Take all of a batch but one entry, so often."""
        self._refuse = times

    def _do(self, request: AWSPreparedRequest) -> None:
        assert self._again.send(request).status_code < 300
        request.reset_stream()
        self.struck += 1

    def _answer(self, kind: tuple[int, dict[str, str], str]) -> AWSResponse:
        self.struck += 1
        status, headers, body = kind
        return AWSResponse("http://service", status, headers, _Body(body.encode()))

    def _before_send(self, request: AWSPreparedRequest, event_name: str, **_: Any) -> AWSResponse | None:
        _, service, operation = event_name.split(".")
        with self._lock:
            return self._before(service, operation, request) if self._before else None

    def _leave_out(self, params: dict[str, Any], model: Any, context: dict[str, Any], **_: Any) -> Any:
        name = {"PublishBatch": "PublishBatchRequestEntries", "SendMessageBatch": "Entries"}.get(model.name)
        if name is None or not self._refuse or len(params[name]) < 2:
            return None
        self._refuse -= 1
        self.struck += 1
        refused, *rest = params[name]
        context["refused"] = refused["Id"]
        return params | {name: rest}

    def _answered(self, parsed: dict[str, Any], model: Any, context: dict[str, Any], **_: Any) -> None:
        if identity := context.pop("refused", None):
            parsed["Failed"] = [{"Id": identity, "Code": "InternalError", "SenderFault": False}]
        if model.name != "ReceiveMessage" or not self._disorder:
            return
        come = parsed.get("Messages", [])
        if come and not self._held:
            self.struck += 1
            self._held, come = come[:1], come[1:]
        elif self._held:
            come, self._held, self._disorder = [*reversed(come), *self._held], [], False
        parsed["Messages"] = come

"""Counts every request that boto3 clients make, through botocore's event hooks.

Only `Meter` knows of clients; the amounts themselves are of `lamella.usage`, which this module passes on.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from botocore import xform_name
from botocore.utils import determine_content_length

from lamella.layer_context import current_layer
from lamella.usage import Count, Usage, billed_requests, lambda_usage, merge, step_functions_usage

__all__ = ["Count", "Meter", "Usage", "lambda_usage", "merge", "step_functions_usage"]

_SERVICES = {"sfn": "stepfunctions"}
_CONTEXT_KEY = "lamella_metering"


class _Emitter(Protocol):
    def register(self, event_name: str, handler: Any, unique_id: str | None = None) -> None: ...


@dataclass(frozen=True)
class _Request:
    """What is known of a call before it is sent; every attempt of it sends the same."""

    service: str
    operation: str
    sent_bytes: int


class Meter:
    """What the clients it is attached to have requested since it was made, or since `take`.

    Every attempt of a call counts as one request, as AWS bills it: a retry is another. Only S3 gives its
    failures (5xx) for free. Calls that are not billed as such (Lambda, Step Functions) are counted with no
    billed units; an invocation made here is left to the invoked function, which knows what it is billed for
    (`lambda_usage`).
    Safe to use from several threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, Count] = {}
        self._by_layer: dict[tuple[str, int], Count] = {}

    def attach(self, *sources: Any) -> None:
        """Count what these boto3 clients request, and every client made from these sessions after this.

        Attaching twice, or to a session and to its clients, counts once.
        """
        for source in sources:
            events: _Emitter = source.meta.events if hasattr(source, "meta") else source.events
            events.register(
                "before-parameter-build", self._prepared, unique_id=f"lamella-prepared-{id(self)}"
            )
            events.register("response-received", self._attempted, unique_id=f"lamella-attempted-{id(self)}")

    def usage(self) -> Usage:
        """So far."""
        with self._lock:
            return Usage(dict(self._counts))

    def take(self) -> Usage:
        """So far; the next count starts at zero. For clients that outlive an invocation."""
        with self._lock:
            counts, self._counts = self._counts, {}
            self._by_layer = {}
        return Usage(counts)

    def traffic(self) -> dict[str, tuple[tuple[int, int, int], ...]]:
        """So far, what was made `for_layer`: (layer, calls, bytes), by operation."""
        with self._lock:
            counted = sorted(self._by_layer.items())
        found: dict[str, tuple[tuple[int, int, int], ...]] = {}
        for (name, layer), count in counted:
            found[name] = (*found.get(name, ()), (layer, count.calls, count.bytes))
        return found

    def _prepared(self, params: Mapping[str, Any], model: Any, context: dict[str, Any], **_: Any) -> None:
        service_id = model.service_model.service_id.hyphenize()
        service = _SERVICES.get(service_id, service_id)
        operation = xform_name(model.name)
        context[_CONTEXT_KEY] = _Request(service, operation, _sent_bytes(service, operation, params))

    def _attempted(
        self,
        context: Mapping[str, Any],
        response_dict: Mapping[str, Any] | None,
        parsed_response: Any,
        **_: Any,
    ) -> None:
        request: _Request | None = context.get(_CONTEXT_KEY)
        # A call that was already under way when the meter was attached has no size: it isn't this meter's.
        if request is None or (request.service, request.operation) == ("lambda", "invoke"):
            return
        status = response_dict["status_code"] if response_dict else None
        received = _received_bytes(request, response_dict or {}, parsed_response or {})
        billed = _billed(request, received, status)
        name = f"{request.service}.{request.operation}"
        count = Count(calls=1, billed=billed, bytes=request.sent_bytes + received)
        layer = current_layer()
        with self._lock:
            self._counts[name] = self._counts.get(name, Count()) + count
            if layer is not None:
                self._by_layer[name, layer] = self._by_layer.get((name, layer), Count()) + count


def _billed(request: _Request, received_bytes: int, status: int | None) -> int:
    if request.service in {"sns", "sqs"}:
        return billed_requests(request.sent_bytes + received_bytes)
    if request.service == "s3":
        # 4xx are billed: https://docs.aws.amazon.com/AmazonS3/latest/userguide/ErrorCodeBilling.html
        failed = status is not None and status >= 500
        free = request.operation.startswith(("delete_", "abort_"))
        return 0 if failed or free else 1
    return 0


def _sent_bytes(service: str, operation: str, params: Mapping[str, Any]) -> int:
    if service == "s3":
        return _length(params.get("Body"))
    if (service, operation) == ("sns", "publish"):
        return _message_bytes(params, "Message")
    if (service, operation) == ("sns", "publish_batch"):
        return sum(_message_bytes(entry, "Message") for entry in params.get("PublishBatchRequestEntries", ()))
    if (service, operation) == ("sqs", "send_message"):
        return _message_bytes(params, "MessageBody")
    if (service, operation) == ("sqs", "send_message_batch"):
        return sum(_message_bytes(entry, "MessageBody") for entry in params.get("Entries", ()))
    return 0


def _received_bytes(request: _Request, response: Mapping[str, Any], parsed: Mapping[str, Any]) -> int:
    if (request.service, request.operation) == ("sqs", "receive_message"):
        messages: Iterable[Mapping[str, Any]] = parsed.get("Messages", ())
        return sum(_message_bytes(message, "Body") for message in messages)
    if (request.service, request.operation) == ("s3", "get_object") and response.get(
        "status_code", 500
    ) < 300:
        return int(parsed.get("ContentLength", 0))
    return 0


def _message_bytes(message: Mapping[str, Any], body: str) -> int:
    """Body, and each attribute's name, type and value: what counts towards a message's size and its price."""
    size = _length(message.get(body))
    for name, attribute in (message.get("MessageAttributes") or {}).items():
        size += _length(name) + _length(attribute.get("DataType"))
        size += _length(attribute.get("StringValue")) + _length(attribute.get("BinaryValue"))
    return size


def _length(value: Any) -> int:
    """Bytes of text, bytes or a file; none of anything else, which botocore refuses next."""
    return int(determine_content_length(value.encode() if isinstance(value, str) else value) or 0)

"""Data operations of SQS and SNS, without moto's request machinery, which costs more than the operations.

Requests that are not plainly well-formed, or fail, are left to moto: its errors stay the only ones.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import struct
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

from moto.sns.models import sns_backends
from moto.sqs.models import sqs_backends

from workflows.embedded_cloud.lambda_api import ACCOUNT_ID, StartResponse
from workflows.embedded_cloud.patches.limits_messaging import (
    MAXIMUM_VISIBILITY_S,
    MOST_ATTRIBUTES,
    is_allowed,
)
from workflows.embedded_cloud.patches.sqs import (
    BATCH_BYTES,
    message_bytes,
    receive_from_store,
    send_to_store,
    still_connected,
)

_TARGET = "AmazonSQS."
_BATCH_ENTRIES = 10
_LONGEST_DELAY_S = 900
_LONGEST_WAIT_S = 20
_SNS_NAMESPACE = "http://sns.amazonaws.com/doc/2010-03-31/"
_SYSTEM_ATTRIBUTES: Mapping[str, Callable[[Any], str]] = {
    "SenderId": lambda message: str(message.sender_id),
    "SentTimestamp": lambda message: str(message.sent_timestamp),
    "ApproximateReceiveCount": lambda message: str(message.approximate_receive_count),
    "ApproximateFirstReceiveTimestamp": lambda message: str(message.approximate_first_receive_timestamp),
}


class LeaveToMotoError(Exception):
    """Not a request that is answered here."""


class MessagingApi:
    """WSGI application for sending, receiving, deleting and publishing; everything else goes to ``rest``."""

    def __init__(self, rest: Callable[[dict[str, Any], StartResponse], Iterable[bytes]]) -> None:
        self._rest = rest
        self._sqs: Mapping[str, Callable[[Any, dict[str, Any], dict[str, Any]], dict[str, Any]]] = {
            "SendMessage": self._send,
            "SendMessageBatch": self._send_batch,
            "ReceiveMessage": self._receive,
            "DeleteMessage": self._delete,
            "DeleteMessageBatch": self._delete_batch,
        }

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        target = environ.get("HTTP_X_AMZ_TARGET", "")
        operation = self._sqs.get(target.removeprefix(_TARGET)) if target.startswith(_TARGET) else None
        is_sns = (
            "/sns/aws4_request" in environ.get("HTTP_AUTHORIZATION", "")
            and environ["REQUEST_METHOD"] == "POST"
        )
        if (operation is None and not is_sns) or not environ.get("CONTENT_LENGTH"):
            return self._rest(environ, start_response)
        body: bytes = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        try:
            if operation is not None:
                request = json.loads(body)
                answer = json.dumps(operation(_queue(environ, request), request, environ)).encode()
                content_type = "application/x-amz-json-1.0"
            else:
                answer = _publish(environ, dict(parse_qsl(body.decode(), keep_blank_values=True)))
                content_type = "text/xml"
        except Exception:
            environ["wsgi.input"] = io.BytesIO(body)
            return self._rest(environ, start_response)
        headers = [("Content-Type", content_type), ("Content-Length", str(len(answer)))]
        start_response("200 OK", [*headers, ("x-amzn-RequestId", str(uuid.uuid4()))])
        return [answer]

    def _send(self, queue: Any, request: dict[str, Any], _environ: dict[str, Any]) -> dict[str, Any]:
        if set(request) - {"QueueUrl", "MessageBody", "MessageAttributes", "DelaySeconds"}:
            raise LeaveToMotoError
        attributes = _decode(request.get("MessageAttributes"))
        _check_message(request["MessageBody"], attributes)
        return _sent(send_to_store(queue, request["MessageBody"], attributes, request.get("DelaySeconds")))

    def _send_batch(self, queue: Any, request: dict[str, Any], _environ: dict[str, Any]) -> dict[str, Any]:
        entries = request["Entries"]
        _check_batch(entries)
        known = {"Id", "MessageBody", "MessageAttributes", "DelaySeconds"}
        if any(set(entry) - known for entry in entries):
            raise LeaveToMotoError
        decoded = [(entry, _decode(entry.get("MessageAttributes"))) for entry in entries]
        for entry, attributes in decoded:
            _check_message(entry["MessageBody"], attributes)
        # Everything is checked before anything is sent: what is left to moto must not be sent twice.
        sizes = [message_bytes(entry["MessageBody"], attributes) for entry, attributes in decoded]
        delays = [entry.get("DelaySeconds") or 0 for entry in entries]
        if (
            sum(sizes) > BATCH_BYTES
            or max(sizes) > queue.maximum_message_size
            or max(delays) > _LONGEST_DELAY_S
        ):
            raise LeaveToMotoError
        return {
            "Successful": [
                {
                    "Id": entry["Id"],
                    **_sent(
                        send_to_store(queue, entry["MessageBody"], attributes, entry.get("DelaySeconds"))
                    ),
                }
                for entry, attributes in decoded
            ],
            "Failed": [],
        }

    def _receive(self, queue: Any, request: dict[str, Any], environ: dict[str, Any]) -> dict[str, Any]:
        count = request.get("MaxNumberOfMessages", 1)
        wait_s = request.get("WaitTimeSeconds", queue.receive_message_wait_time_seconds)
        visibility_s = request.get("VisibilityTimeout", queue.visibility_timeout)
        if not (1 <= count <= _BATCH_ENTRIES and 0 <= wait_s <= _LONGEST_WAIT_S) or not (
            0 <= visibility_s <= MAXIMUM_VISIBILITY_S
        ):
            raise LeaveToMotoError
        messages = receive_from_store(
            queue,
            count,
            wait_s,
            visibility_s,
            request.get("MessageAttributeNames", []),
            still_connected(environ.get("werkzeug.socket")),
        )
        wanted = {*request.get("AttributeNames", []), *request.get("MessageSystemAttributeNames", [])}
        return {"Messages": [_received(message, wanted) for message in messages]} if messages else {}

    def _delete(self, queue: Any, request: dict[str, Any], _environ: dict[str, Any]) -> dict[str, Any]:
        if not queue.store.delete(request["ReceiptHandle"]):
            raise LeaveToMotoError
        return {}

    def _delete_batch(self, queue: Any, request: dict[str, Any], _environ: dict[str, Any]) -> dict[str, Any]:
        entries = request["Entries"]
        _check_batch(entries)
        successful, failed = [], []
        for entry in entries:
            if queue.store.delete(entry["ReceiptHandle"]):
                successful.append({"Id": entry["Id"]})
            else:
                message = (
                    f'The input receipt handle "{entry["ReceiptHandle"]}" is not a valid receipt handle.'
                )
                code = "ReceiptHandleIsInvalid"
                failed.append({"Id": entry["Id"], "SenderFault": True, "Code": code, "Message": message})
        return {"Successful": successful, "Failed": failed}


def _region(environ: Mapping[str, Any]) -> str:
    scope = environ.get("HTTP_AUTHORIZATION", "").partition("Credential=")[2].split("/")
    return str(scope[2])


def _queue(environ: Mapping[str, Any], request: Mapping[str, Any]) -> Any:
    queue = sqs_backends[ACCOUNT_ID][_region(environ)].queues[request["QueueUrl"].rsplit("/", 1)[-1]]
    if queue.fifo_queue or queue.lambda_event_source_mappings:
        raise LeaveToMotoError
    return queue


def _check_batch(entries: list[dict[str, Any]]) -> None:
    ids = {entry["Id"] for entry in entries}
    if not 1 <= len(entries) <= _BATCH_ENTRIES or len(ids) != len(entries):
        raise LeaveToMotoError


def _check_message(body: str, attributes: Mapping[str, Any]) -> None:
    if not body or not is_allowed(body) or len(attributes) > MOST_ATTRIBUTES:
        raise LeaveToMotoError


def _decode(attributes: Mapping[str, Any] | None) -> dict[str, Any]:
    decoded: dict[str, Any] = {}
    for name, attribute in (attributes or {}).items():
        kind = attribute["DataType"]
        if kind.startswith("Binary"):
            decoded[name] = {"DataType": kind, "BinaryValue": base64.b64decode(attribute["BinaryValue"])}
        elif kind.startswith(("String", "Number")) and attribute["StringValue"]:
            decoded[name] = {"DataType": kind, "StringValue": attribute["StringValue"]}
        else:
            raise LeaveToMotoError
    return decoded


def _sent(message: Any) -> dict[str, Any]:
    answer = {"MessageId": message.id, "MD5OfMessageBody": _md5(message.body.encode())}
    if message.message_attributes:
        answer["MD5OfMessageAttributes"] = attributes_md5(message.message_attributes)
    return answer


def _received(message: Any, wanted: set[str]) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "MessageId": message.id,
        "ReceiptHandle": message.receipt_handle,
        "MD5OfBody": _md5(message.body.encode()),
        "Body": message.body,
    }
    if message.message_attributes:
        answer["MD5OfMessageAttributes"] = attributes_md5(message.message_attributes)
        answer["MessageAttributes"] = {
            name: {**each, "BinaryValue": base64.b64encode(each["BinaryValue"]).decode()}
            if "BinaryValue" in each
            else each
            for name, each in message.message_attributes.items()
        }
    names = _SYSTEM_ATTRIBUTES if "All" in wanted else wanted & set(_SYSTEM_ATTRIBUTES)
    if names:
        answer["Attributes"] = {name: _SYSTEM_ATTRIBUTES[name](message) for name in names}
    return answer


def attributes_md5(attributes: Mapping[str, Any]) -> str:
    """MD5 of message attributes.

    docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-message-metadata.html
    """
    parts: list[bytes] = []
    for name in sorted(attributes):
        attribute = attributes[name]
        binary = "BinaryValue" in attribute
        value = attribute["BinaryValue"] if binary else str(attribute["StringValue"]).encode()
        for piece in (name.encode(), attribute["DataType"].encode()):
            parts += [struct.pack(">I", len(piece)), piece]
        parts += [b"\x02" if binary else b"\x01", struct.pack(">I", len(value)), value]
    return _md5(b"".join(parts))


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def _publish(environ: Mapping[str, Any], form: dict[str, str]) -> bytes:
    backend = sns_backends[ACCOUNT_ID][_region(environ)]
    action = form.get("Action")
    if action not in ("Publish", "PublishBatch") or backend.topics[form["TopicArn"]].fifo_topic:
        raise LeaveToMotoError
    if action == "Publish":
        if set(form) & {"PhoneNumber", "TargetArn", "MessageStructure"}:
            raise LeaveToMotoError
        attributes = _form_attributes(form, "MessageAttributes.entry.")
        message_id = backend.publish(
            form["Message"], arn=form["TopicArn"], subject=form.get("Subject"), message_attributes=attributes
        )
        result = f"<MessageId>{message_id}</MessageId>"
    else:
        successful, failed = backend.publish_batch(form["TopicArn"], _form_entries(form))
        result = f"<Successful>{_members(successful)}</Successful><Failed>{_members(failed)}</Failed>"
    return (
        f'<{action}Response xmlns="{_SNS_NAMESPACE}"><{action}Result>{result}</{action}Result>'
        f"<ResponseMetadata><RequestId>{uuid.uuid4()}</RequestId></ResponseMetadata></{action}Response>"
    ).encode()


def _form_entries(form: Mapping[str, str]) -> list[dict[str, Any]]:
    by_number: dict[int, dict[str, str]] = {}
    for key, value in form.items():
        if key.startswith("PublishBatchRequestEntries.member."):
            _, _, number, rest = key.split(".", 3)
            by_number.setdefault(int(number), {})[rest] = value
    entries = []
    for _, fields in sorted(by_number.items()):
        entry: dict[str, Any] = {key: value for key, value in fields.items() if "." not in key}
        if set(entry) - {"Id", "Message", "Subject"}:
            raise LeaveToMotoError
        entry["MessageAttributes"] = _form_attributes(fields, "MessageAttributes.entry.")
        entries.append(entry)
    if not entries:
        raise LeaveToMotoError
    return entries


def _form_attributes(form: Mapping[str, str], prefix: str) -> dict[str, Any]:
    by_number: dict[str, dict[str, str]] = {}
    for key, value in form.items():
        if key.startswith(prefix):
            number, _, field = key[len(prefix) :].partition(".")
            by_number.setdefault(number, {})[field] = value
    attributes: dict[str, Any] = {}
    for fields in by_number.values():
        kind = fields["Value.DataType"]
        value = fields["Value.BinaryValue"] if kind == "Binary" else fields["Value.StringValue"]
        if not value or kind not in ("String", "Binary"):
            raise LeaveToMotoError
        attributes[fields["Name"]] = {"Type": kind, "Value": value}
    return attributes


def _members(items: list[dict[str, Any]]) -> str:
    return "".join(
        "<member>"
        + "".join(f"<{key}>{escape(str(value))}</{key}>" for key, value in item.items())
        + "</member>"
        for item in items
    )

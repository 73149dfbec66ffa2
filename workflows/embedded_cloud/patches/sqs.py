"""Changes to moto's SQS."""

from __future__ import annotations

import copy
import select
import socket
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from flask import has_request_context, request
from moto.core.common_models import BaseModel
from moto.sqs import models as sqs_models
from moto.sqs.exceptions import BatchRequestTooLong, InvalidParameterValue, ReceiptHandleIsInvalid
from moto.sqs.models import Queue, SQSBackend

from workflows.embedded_cloud.faults.deliveries import Deliveries
from workflows.embedded_cloud.patches.context import CloudContext
from workflows.embedded_cloud.patches.queue_store import QueueStore

BATCH_BYTES = 1_048_576
"""Of a batch: docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html."""
_MAXIMUM_VISIBILITY_S = 43_200


def forget_models(_context: CloudContext) -> None:
    """Moto keeps every model object ever made, every message among them, to reset itself in tests."""

    def new(cls: Any, *_args: Any, **_kwargs: Any) -> Any:
        return object.__new__(cls)

    BaseModel.__new__ = new


def constant_time_queues(context: CloudContext) -> None:
    """Standard queues live in a :class:`QueueStore`.

    moto scans the whole queue a dozen times per received message, hands one message to two receivers,
    and gives messages to receivers that have hung up.
    """
    deliveries = Deliveries(context.faults)
    original_init = Queue.__init__
    original_add = Queue.add_message
    original_delete = Queue.delete_message
    original_receive = SQSBackend.receive_message
    original_send = SQSBackend.send_message
    original_visibility = SQSBackend.change_message_visibility
    original_purge = SQSBackend.purge_queue
    originals = {
        name: getattr(Queue, name).fget
        for name in (
            "messages",
            "approximate_number_of_messages",
            "approximate_number_of_messages_delayed",
            "approximate_number_of_messages_not_visible",
        )
    }

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        self.store = QueueStore(deliveries)
        original_init(self, *args, **kwargs)

    def add_message(self: Any, message: Any) -> None:
        if self.fifo_queue or self.lambda_event_source_mappings:
            original_add(self, message)
        else:
            self.store.add(
                message, message.delayed_until / 1000 - time.time() if message.delayed_until else 0.0
            )

    def delete_message(self: Any, receipt_handle: str) -> None:
        if self.fifo_queue or not self.store.delete(receipt_handle):
            original_delete(self, receipt_handle)

    def send_message(
        self: Any,
        queue_name: str,
        message_body: str,
        message_attributes: dict[str, Any] | None = None,
        delay_seconds: int | None = None,
        deduplication_id: str | None = None,
        group_id: str | None = None,
        system_attributes: dict[str, Any] | None = None,
        **more: Any,
    ) -> Any:
        queue = self.get_queue(queue_name)
        if queue.fifo_queue or queue.lambda_event_source_mappings:
            return original_send(
                self,
                queue_name,
                message_body,
                message_attributes,
                delay_seconds,
                deduplication_id,
                group_id,
                system_attributes,
                **more,
            )
        return send_to_store(queue, message_body, message_attributes or {}, delay_seconds, system_attributes)

    def receive_message(
        self: Any,
        queue_name: str,
        count: int,
        wait_seconds_timeout: int,
        visibility_timeout: int,
        message_attribute_names: list[str] | None = None,
    ) -> list[Any]:
        queue = self.get_queue(queue_name)
        if queue.fifo_queue or queue.lambda_event_source_mappings:
            return list(
                original_receive(
                    self, queue_name, count, wait_seconds_timeout, visibility_timeout, message_attribute_names
                )
            )
        return receive_from_store(
            queue,
            count,
            wait_seconds_timeout,
            visibility_timeout,
            message_attribute_names,
            _caller_still_there(),
        )

    def change_message_visibility(
        self: Any, queue_name: str, receipt_handle: str, visibility_timeout: int
    ) -> None:
        queue = self.get_queue(queue_name)
        if int(visibility_timeout) > _MAXIMUM_VISIBILITY_S:
            raise InvalidParameterValue(
                f"Value {visibility_timeout} for parameter VisibilityTimeout is invalid. "
                "Reason: VisibilityTimeout must be an integer between 0 and 43200."
            )
        if queue.fifo_queue:
            original_visibility(self, queue_name, receipt_handle, visibility_timeout)
        elif not queue.store.change_visibility(receipt_handle, int(visibility_timeout)):
            raise ReceiptHandleIsInvalid

    def purge_queue(self: Any, queue_name: str) -> None:
        original_purge(self, queue_name)
        self.get_queue(queue_name).store.purge()

    def counting(name: str, *states: str) -> property:
        def value(self: Any) -> Any:
            stored = self.store.counts()
            return originals[name](self) + sum(stored[state] for state in states)

        return property(value)

    Queue.__init__ = init
    Queue.add_message = add_message
    Queue.delete_message = delete_message
    Queue.messages = property(lambda self: originals["messages"](self) + self.store.ready_messages())
    for name, states in (
        ("approximate_number_of_messages", ("ready",)),
        ("approximate_number_of_messages_delayed", ("delayed",)),
        ("approximate_number_of_messages_not_visible", ("in flight",)),
    ):
        setattr(Queue, name, counting(name, *states))
    originals["approximate_number_of_messages"] = lambda self: len(originals["messages"](self))
    SQSBackend.send_message = send_message
    SQSBackend.receive_message = receive_message
    SQSBackend.change_message_visibility = change_message_visibility
    SQSBackend.purge_queue = purge_queue


def refuse_batches_that_are_too_long(_context: CloudContext) -> None:
    """A batch counts in bytes and with its attributes; moto counts characters of bodies."""
    original = SQSBackend.send_message_batch

    def send_message_batch(self: Any, queue_name: str, entries: dict[str, dict[str, Any]]) -> Any:
        total = sum(
            message_bytes(entry["MessageBody"], entry.get("MessageAttributes") or {})
            for entry in entries.values()
        )
        if total > BATCH_BYTES:
            raise BatchRequestTooLong(total)
        return original(self, queue_name, entries)

    SQSBackend.send_message_batch = send_message_batch


def _caller_still_there() -> Callable[[], bool]:
    return still_connected(request.environ.get("werkzeug.socket") if has_request_context() else None)


def still_connected(connection: socket.socket | None) -> Callable[[], bool]:
    """Return a function that tells whether a client has its connection still open."""
    if connection is None:
        return lambda: True

    def still_there() -> bool:
        try:
            readable, _, _ = select.select([connection], [], [], 0)
            return not readable or bool(connection.recv(1, socket.MSG_PEEK))
        except (OSError, ValueError):
            return False

    return still_there


def send_to_store(
    queue: Any,
    body: str,
    attributes: dict[str, Any],
    delay_s: int | None = None,
    system_attributes: dict[str, Any] | None = None,
) -> Any:
    """Send to a standard queue.

    Raises
    ------
    InvalidParameterValue
        If the message, in bytes and with its attributes, is longer than the queue allows, or the delay is.
    """
    delay_s = int(queue.delay_seconds if delay_s is None else delay_s)
    if delay_s > sqs_models.MAXIMUM_MESSAGE_DELAY:
        raise InvalidParameterValue(
            f"Value {delay_s} for parameter DelaySeconds is invalid. "
            "Reason: DelaySeconds must be >= 0 and <= 900."
        )
    if message_bytes(body, attributes) > queue.maximum_message_size:
        raise InvalidParameterValue(
            f"One or more parameters are invalid. Reason: Message must be shorter than "
            f"{queue.maximum_message_size} bytes."
        )
    message = sqs_models.Message(str(uuid.uuid4()), body, system_attributes)
    message.message_attributes = attributes
    message.sent_timestamp = int(time.time() * 1000)
    queue.store.add(message, delay_s)
    return message


def message_bytes(body: str, attributes: Mapping[str, Any]) -> int:
    """Size of a message as SQS counts it: body, and name, type and value of every attribute."""
    total = len(body.encode())
    for name, attribute in attributes.items():
        value = attribute.get("BinaryValue") or attribute.get("StringValue") or ""
        total += len(name.encode()) + len(attribute["DataType"])
        total += len(value if isinstance(value, bytes) else str(value).encode())
    return total


def receive_from_store(
    queue: Any,
    count: int,
    wait_s: float,
    visibility_s: float,
    attribute_names: list[str] | None,
    still_wanted: Callable[[], bool],
) -> list[Any]:
    """Receive from a queue's store, as moto's messages with the attributes that were asked for."""

    def to_dead_letters(message: Any) -> bool:
        policy, target = queue.redrive_policy, queue.dead_letter_queue
        if target is None or not policy or message.approximate_receive_count < policy["maxReceiveCount"]:
            return False
        target.add_message(message)
        return True

    received = queue.store.receive(
        count,
        float(wait_s),
        float(visibility_s),
        float(queue.message_retention_period),
        to_dead_letters,
        still_wanted,
    )
    answer = []
    for message in received:
        shown = copy.copy(message)  # filtering must not change the message itself
        sqs_models._filter_message_attributes(shown, attribute_names or [])
        answer.append(shown)
    return answer


PATCHES = (forget_models, constant_time_queues, refuse_batches_that_are_too_long)

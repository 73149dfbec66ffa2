"""Changes to moto's SNS."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from moto.sns.exceptions import InvalidParameterValue, SNSException
from moto.sns.models import SNSBackend, Subscription, Topic
from moto.sqs.models import SQSBackend

from workflows.embedded_cloud.patches.context import CloudContext

DEFAULT_MAXIMUM_MESSAGE_BYTES = 262_144
"""docs.aws.amazon.com/general/latest/gr/sns.html; a topic's MaximumMessageSize raises it."""


class BatchRequestTooLong(SNSException):  # type: ignore[misc]
    """The entries of a batch are too large together."""

    code = "BatchRequestTooLong"
    message = "The length of all the messages put together is more than the limit."


def deliver_to_every_subscription(_context: CloudContext) -> None:
    """Moto delivers to the first hundred subscriptions of a topic, and keeps every message for ever.

    It also tries the filter policy of each; here most are found by the attribute that they ask for.
    """
    routes: dict[str, Routes] = {}

    def forgetting(original: Any) -> Any:
        def changed(self: Any, *args: Any, **kwargs: Any) -> Any:
            routes.clear()
            try:
                return original(self, *args, **kwargs)
            finally:
                routes.clear()

        return changed

    def publish(
        self: Any,
        message: str,
        subject: str | None = None,
        message_attributes: dict[str, Any] | None = None,
        group_id: str | None = None,
        deduplication_id: str | None = None,
        message_structure: str | None = None,
    ) -> str:
        message_id = str(uuid.uuid4())
        found = routes.get(self.arn)
        if found is None:
            every = list(self.sns_backend.subscriptions.values())
            found = routes[self.arn] = Routes([each for each in every if each.topic is self])
        for subscription in found.candidates(message_attributes or {}):
            subscription.publish(
                message,
                message_id,
                subject=subject,
                message_attributes=message_attributes,
                group_id=group_id,
                deduplication_id=deduplication_id,
                message_structure=message_structure,
            )
        return message_id

    Topic.publish = publish
    for name in ("subscribe", "unsubscribe", "set_subscription_attributes", "delete_topic"):
        setattr(SNSBackend, name, forgetting(getattr(SNSBackend, name)))


class Routes:
    """The subscriptions of a topic, by what their filter policies ask for.

    Parameters
    ----------
    subscriptions
        Moto's.
    """

    def __init__(self, subscriptions: list[Any]) -> None:
        self._by_value: dict[str, dict[str, list[Any]]] = {}
        self._others: list[Any] = []
        for subscription in subscriptions:
            policy = subscription._filter_policy
            scope = subscription.attributes.get("FilterPolicyScope") or "MessageAttributes"
            simple = isinstance(policy, dict) and len(policy) == 1 and scope == "MessageAttributes"
            name, wanted = next(iter(policy.items())) if simple else ("", [])
            if simple and isinstance(wanted, list) and all(isinstance(value, str) for value in wanted):
                for value in wanted:
                    self._by_value.setdefault(name, {}).setdefault(value, []).append(subscription)
            else:
                self._others.append(subscription)

    def candidates(self, attributes: Mapping[str, Any]) -> Iterator[Any]:
        """Subscriptions that may want a message with these attributes; their own filters decide."""
        yield from self._others
        for name, by_value in self._by_value.items():
            attribute = attributes.get(name)
            if attribute is None:
                continue
            if attribute["Type"] == "String":
                yield from by_value.get(attribute["Value"], ())
            else:  # arrays and their like: let every filter look
                yield from {id(each): each for found in by_value.values() for each in found}.values()


def binary_attributes_in_raw_delivery(_context: CloudContext) -> None:
    """Raw delivery hands a queue bytes; moto hands it base64 text, and ReceiveMessage fails."""
    original = SQSBackend.send_message

    def send_message(
        self: Any, queue_name: str, message_body: str, message_attributes: Any = None, **more: Any
    ) -> Any:
        for attribute in (message_attributes or {}).values():
            if isinstance(attribute, dict) and isinstance(attribute.get("BinaryValue"), str):
                attribute["BinaryValue"] = base64.b64decode(attribute["BinaryValue"])
        return original(self, queue_name, message_body, message_attributes=message_attributes, **more)

    SQSBackend.send_message = send_message


def raw_delivery_can_be_off(_context: CloudContext) -> None:
    """RawMessageDelivery "false" means off; moto takes any text for on."""
    original = Subscription.publish

    def publish(self: Any, *args: Any, **kwargs: Any) -> None:
        if str(self.attributes.get("RawMessageDelivery")).lower() == "false":
            del self.attributes["RawMessageDelivery"]
        original(self, *args, **kwargs)

    Subscription.publish = publish


def refuse_messages_that_are_too_long(_context: CloudContext) -> None:
    """A message, or a batch, counts in bytes and with its attributes; moto counts characters of bodies."""
    original_publish = SNSBackend.publish
    original_batch = SNSBackend.publish_batch

    def limit_of(backend: Any, arn: str | None) -> int:
        topic = backend.topics.get(arn)
        return int(getattr(topic, "maximum_message_size", None) or DEFAULT_MAXIMUM_MESSAGE_BYTES)

    def publish(
        self: Any,
        message: str,
        arn: str | None,
        phone_number: str | None = None,
        subject: str | None = None,
        message_attributes: dict[str, Any] | None = None,
        **more: Any,
    ) -> str:
        if message_bytes(message, message_attributes) > limit_of(self, arn):
            raise InvalidParameterValue("Invalid parameter: Message too long")
        return str(
            original_publish(
                self,
                message,
                arn=arn,
                phone_number=phone_number,
                subject=subject,
                message_attributes=message_attributes,
                **more,
            )
        )

    def publish_batch(self: Any, topic_arn: str, publish_batch_request_entries: list[dict[str, Any]]) -> Any:
        total = sum(
            message_bytes(entry["Message"], entry.get("MessageAttributes"))
            for entry in publish_batch_request_entries
        )
        if total > limit_of(self, topic_arn):
            raise BatchRequestTooLong
        return original_batch(self, topic_arn, publish_batch_request_entries)

    SNSBackend.publish = publish
    SNSBackend.publish_batch = publish_batch


def message_bytes(body: str, attributes: Mapping[str, Any] | None) -> int:
    """Size of a message as SNS counts it: body, and name, type and value of every attribute."""
    total = len(body.encode())
    for name, attribute in (attributes or {}).items():
        value = attribute.get("Value", "")
        total += len(name.encode()) + len(attribute["Type"])
        if attribute["Type"].startswith("Binary") and isinstance(value, str):
            total += len(base64.b64decode(value))
        else:
            total += len(value if isinstance(value, bytes) else str(value).encode())
    return total


PATCHES = (
    deliver_to_every_subscription,
    binary_attributes_in_raw_delivery,
    raw_delivery_can_be_off,
    refuse_messages_that_are_too_long,
)

"""Limits of SQS and SNS that moto does not have."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from typing import Any

from moto.sns import models as sns_models
from moto.sns.exceptions import SNSException, SNSInvalidParameter
from moto.sns.models import SNSBackend
from moto.sqs.exceptions import (
    InvalidParameterValue,
    MissingParameter,
    SQSException,
    TooManyEntriesInBatchRequest,
)
from moto.sqs.models import SQSBackend
from moto.sqs.responses import SQSResponse

from workflows.embedded_cloud.patches.context import CloudContext

BATCH_ENTRIES = 10
MOST_ATTRIBUTES = 10
DELETED_NAME_S = 60
FILTER_POLICIES_OF_A_TOPIC = 200
MAXIMUM_VISIBILITY_S = 43_200
TOPIC_MESSAGE_BYTES = (1024, 1_048_576)

# docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html
_NOT_ALLOWED = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class QueueDeletedRecently(SQSException):  # type: ignore[misc]
    """A queue of this name existed a moment ago."""

    def __init__(self) -> None:
        super().__init__(
            "AWS.SimpleQueueService.QueueDeletedRecently",
            f"You must wait {DELETED_NAME_S} seconds after deleting a queue before you can create another "
            "with the same name.",
        )


class InvalidMessageContents(SQSException):  # type: ignore[misc]
    """A body has characters that XML has not."""

    def __init__(self) -> None:
        super().__init__("InvalidMessageContents", "Invalid binary character was found in the message body.")


class FilterPolicyLimitExceeded(SNSException):  # type: ignore[misc]
    """A topic has as many filter policies as it may."""

    code = "FilterPolicyLimitExceeded"
    message = f"Subscription filter policies of the topic exceed the limit of {FILTER_POLICIES_OF_A_TOPIC}."


def is_allowed(body: str) -> bool:
    """Whether a message's body has only characters that SQS takes."""
    return _NOT_ALLOWED.search(body) is None


def refuse_messages_that_sqs_refuses(_context: CloudContext) -> None:
    """SQS takes no empty body, no characters that XML has not, and ten attributes; moto takes all."""
    original = SQSBackend.send_message

    def send_message(
        self: Any,
        queue_name: str,
        message_body: str,
        message_attributes: Mapping[str, Any] | None = None,
        *args: Any,
        **more: Any,
    ) -> Any:
        if not message_body:
            raise MissingParameter("MessageBody")
        if not is_allowed(message_body):
            raise InvalidMessageContents
        if len(message_attributes or {}) > MOST_ATTRIBUTES:
            raise InvalidParameterValue(
                f"Number of message attributes [{len(message_attributes or {})}] exceeds the allowed "
                f"maximum [{MOST_ATTRIBUTES}]."
            )
        return original(self, queue_name, message_body, message_attributes, *args, **more)

    SQSBackend.send_message = send_message


def refuse_deletions_of_too_many(_context: CloudContext) -> None:
    """A batch has at most ten entries, of deletions too; moto counts those that are sent."""
    original = SQSResponse.delete_message_batch

    def delete_message_batch(self: Any) -> Any:
        entries = self._get_param("Entries", [])
        if len(entries) > BATCH_ENTRIES:
            raise TooManyEntriesInBatchRequest(len(entries))
        return original(self)

    SQSResponse.delete_message_batch = delete_message_batch


def refuse_long_visibility(_context: CloudContext) -> None:
    """A received message is hidden for at most twelve hours; moto takes any number."""
    original = SQSBackend.receive_message

    def receive_message(
        self: Any, queue_name: str, count: int, wait_s: int, visibility_s: int, *args: Any, **more: Any
    ) -> Any:
        if not 0 <= int(visibility_s) <= MAXIMUM_VISIBILITY_S:
            raise InvalidParameterValue(
                f"Value {visibility_s} for parameter VisibilityTimeout is invalid. "
                f"Reason: Must be between 0 and {MAXIMUM_VISIBILITY_S}, if provided."
            )
        return original(self, queue_name, count, wait_s, visibility_s, *args, **more)

    SQSBackend.receive_message = receive_message


def names_of_deleted_queues_stay_taken(_context: CloudContext) -> None:
    """A queue's name can't be used again for 60 s after its deletion; in moto it can at once.

    CloudFormation's own queues are not held to it: their handler waits.
    """
    deleted: dict[tuple[str, str], float] = {}
    original_create, original_delete = SQSResponse.create_queue, SQSResponse.delete_queue

    def create_queue(self: Any) -> Any:
        since_s = deleted.get((self.region, self._get_param("QueueName")))
        if since_s is not None and time.monotonic() - since_s < DELETED_NAME_S:
            raise QueueDeletedRecently
        return original_create(self)

    def delete_queue(self: Any) -> Any:
        answer = original_delete(self)
        now_s = time.monotonic()
        for key in [key for key, since_s in list(deleted.items()) if now_s - since_s >= DELETED_NAME_S]:
            deleted.pop(key, None)
        deleted[self.region, self._get_queue_name()] = now_s
        return answer

    SQSResponse.create_queue = create_queue
    SQSResponse.delete_queue = delete_queue


def refuse_empty_publishes(_context: CloudContext) -> None:
    """SNS takes no empty message; moto does."""
    original = SNSBackend.publish

    def publish(self: Any, message: str, *args: Any, **more: Any) -> Any:
        if not message:
            raise SNSInvalidParameter("Invalid parameter: Empty message")
        return original(self, message, *args, **more)

    SNSBackend.publish = publish


def limit_filter_policies(_context: CloudContext) -> None:
    """A topic has at most 200 filter policies, each of JSON; moto has no limit, and fails at other text."""
    original = SNSBackend.set_subscription_attributes

    def set_subscription_attributes(self: Any, arn: str, name: str, value: Any) -> None:
        if name == "FilterPolicy" and value:
            _check_filter_policy(self, arn, value)
        original(self, arn, name, value)

    SNSBackend.set_subscription_attributes = set_subscription_attributes


def _check_filter_policy(backend: Any, arn: str, value: str) -> None:
    try:
        json.loads(value)
    except ValueError as error:
        raise SNSInvalidParameter(
            "Invalid parameter: FilterPolicy: failed to parse JSON. " + str(error)
        ) from error
    mine = backend.subscriptions.get(arn)
    others = [
        each
        for each in list(backend.subscriptions.values())
        if mine is not None and each.topic is mine.topic and each is not mine and each._filter_policy
    ]
    if len(others) >= FILTER_POLICIES_OF_A_TOPIC:
        raise FilterPolicyLimitExceeded


def limit_maximum_message_size(_context: CloudContext) -> None:
    """A topic's MaximumMessageSize is 1 KiB to 1 MiB; moto takes anything, and no message over 256 KiB."""
    sns_models.MAXIMUM_MESSAGE_LENGTH = TOPIC_MESSAGE_BYTES[1]
    original = SNSBackend.set_topic_attribute

    def set_topic_attribute(self: Any, topic_arn: str, attribute_name: str, attribute_value: str) -> None:
        least, most = TOPIC_MESSAGE_BYTES
        if attribute_name == "maximum_message_size" and not (
            attribute_value.isdecimal() and least <= int(attribute_value) <= most
        ):
            raise SNSInvalidParameter(f"Invalid parameter: MaximumMessageSize must be {least} to {most}")
        original(self, topic_arn, attribute_name, attribute_value)

    SNSBackend.set_topic_attribute = set_topic_attribute


PATCHES = (
    refuse_messages_that_sqs_refuses,
    refuse_deletions_of_too_many,
    refuse_long_visibility,
    names_of_deleted_queues_stay_taken,
    refuse_empty_publishes,
    limit_filter_policies,
    limit_maximum_message_size,
)

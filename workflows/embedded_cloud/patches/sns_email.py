"""E-mail subscriptions of SNS topics."""

from __future__ import annotations

import copy
import json
import secrets
import threading
import time
from pathlib import Path
from typing import Any

from moto.core.responses import ActionResult
from moto.sns.exceptions import SNSInvalidParameter
from moto.sns.models import SNSBackend, Subscription, Topic
from moto.sns.responses import SNSResponse

from workflows.embedded_cloud.clock import iso_time
from workflows.embedded_cloud.launcher import EMAIL_LOG
from workflows.embedded_cloud.patches.context import CloudContext

DEFAULT_SUBJECT = "AWS Notification Message"
_PROTOCOLS = ("email", "email-json")
_PENDING = "PendingConfirmation"


def email_subscriptions_await_confirmation(_context: CloudContext) -> None:
    """An e-mail subscription is pending, without an ARN to show, until its token is confirmed.

    moto has it confirmed at once, confirms any token, and counts no subscriptions of a topic.
    """
    original_subscribe = SNSResponse.subscribe
    original_backend_subscribe = SNSBackend.subscribe

    def backend_subscribe(self: Any, topic_arn: str, endpoint: str, protocol: str) -> Any:
        subscription = original_backend_subscribe(self, topic_arn, endpoint, protocol)
        if protocol in _PROTOCOLS and not hasattr(subscription, "token"):
            subscription.token = secrets.token_hex(64)
            subscription.attributes |= {_PENDING: True, "ConfirmationWasAuthenticated": False}
        return subscription

    def subscribe(self: Any) -> Any:
        answer = original_subscribe(self)
        asked = [self._get_param(name) for name in ("TopicArn", "Endpoint", "Protocol")]
        subscription = self.backend._find_subscription(*asked)
        shown = str(self._get_param("ReturnSubscriptionArn")).lower() == "true"
        pending = subscription is not None and subscription.attributes[_PENDING] is True
        return ActionResult({"SubscriptionArn": "pending confirmation"}) if pending and not shown else answer

    def confirm_subscription(self: Any) -> Any:
        topic = self.backend.get_topic(self._get_param("TopicArn"))
        token = self._get_param("Token")
        for subscription in self.backend.subscriptions.values():
            if subscription.topic is topic and getattr(subscription, "token", None) == token:
                subscription.attributes[_PENDING] = False
                return ActionResult({"SubscriptionArn": subscription.arn})
        raise SNSInvalidParameter("Invalid parameter: Token")

    def listing(original: Any) -> Any:
        def listed(self: Any, *args: Any, **kwargs: Any) -> tuple[list[Any], Any]:
            found, next_token = original(self, *args, **kwargs)
            return [_as_listed(subscription) for subscription in found], next_token

        return listed

    def count(pending: bool) -> property:
        def counted(self: Any) -> int:
            own = [each for each in self.sns_backend.subscriptions.values() if each.topic is self]
            return sum(each.attributes[_PENDING] is pending for each in own)

        return property(counted, lambda _self, _value: None)

    SNSBackend.subscribe = backend_subscribe
    SNSResponse.subscribe = subscribe
    SNSResponse.confirm_subscription = confirm_subscription
    for name in ("list_subscriptions", "list_subscriptions_by_topic"):
        setattr(SNSBackend, name, listing(getattr(SNSBackend, name)))
    Topic.subscriptions_pending = count(pending=True)
    Topic.subscriptions_confimed = count(pending=False)


def emails_are_recorded(context: CloudContext) -> None:
    """What a topic would mail is written to a file, confirmed or not; moto drops it. Nothing is mailed."""
    log = EmailLog(context.log_directory / EMAIL_LOG)
    original_publish = Subscription.publish
    original_subscribe = SNSBackend.subscribe

    def subscribe(self: Any, topic_arn: str, endpoint: str, protocol: str) -> Any:
        known = self._find_subscription(topic_arn, endpoint, protocol)
        subscription = original_subscribe(self, topic_arn, endpoint, protocol)
        if protocol in _PROTOCOLS and known is None:
            token = getattr(subscription, "token", "")
            text = f"You have chosen to subscribe to the topic:\n{topic_arn}"
            log.write(subscription, "AWS Notification - Subscription Confirmation", text, token=token)
        return subscription

    def publish(
        self: Any,
        message: str,
        message_id: str,
        subject: str | None = None,
        message_attributes: dict[str, Any] | None = None,
        message_structure: str | None = None,
        **more: Any,
    ) -> None:
        matcher = self._filter_policy_matcher
        if self.protocol not in _PROTOCOLS:
            more |= {"message_attributes": message_attributes, "message_structure": message_structure}
            original_publish(self, message, message_id, subject=subject, **more)
        elif matcher is None or matcher.matches(message_attributes, message):
            if message_structure == "json":
                message = self._parse_message_structure(message, self.protocol)
            if self.protocol == "email-json":
                message = json.dumps(self.get_post_data(message, message_id, subject, message_attributes))
            log.write(self, subject or DEFAULT_SUBJECT, message, message_id=message_id)

    SNSBackend.subscribe = subscribe
    Subscription.publish = publish


class EmailLog:
    """A file of e-mails, one JSON object a line.

    Each has ``time``, ``topic_arn``, ``to``, ``protocol``, ``subject``, ``message`` and ``confirmed``:
    whether AWS would have mailed it, as the subscription was confirmed. One that asks for confirmation has a
    ``token``, any other its ``message_id``.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()

    def write(self, subscription: Any, subject: str, message: str, **more: str) -> None:
        """Add what a subscription would be mailed."""
        email = {
            "time": iso_time(time.time()),
            "topic_arn": subscription.topic_arn,
            "to": subscription.endpoint,
            "protocol": subscription.protocol,
            "subject": subject,
            "message": message,
            "confirmed": subscription.attributes[_PENDING] is not True,
            **more,
        }
        with self._lock, self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(email, ensure_ascii=False) + "\n")


def _as_listed(subscription: Any) -> Any:
    if subscription.attributes[_PENDING] is not True:
        return subscription
    shown = copy.copy(subscription)
    shown.arn = _PENDING
    return shown


PATCHES = (email_subscriptions_await_confirmation, emails_are_recorded)

"""E-mail subscriptions of topics."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.cloud.helpers import create_stack, resource, unique
from workflows.embedded_cloud import EmbeddedCloud


def emails_to(cloud: EmbeddedCloud, address: str) -> list[dict[str, Any]]:
    return [email for email in cloud.emails() if email["to"] == address]


def make_topic(cloud: EmbeddedCloud) -> str:
    return str(cloud.client("sns").create_topic(Name=unique("topic"))["TopicArn"])


def test_email_subscriptions_await_confirmation(cloud: EmbeddedCloud) -> None:
    client, topic, address = cloud.client("sns"), make_topic(cloud), f"{unique('a')}@example.com"
    asked = {"TopicArn": topic, "Protocol": "email", "Endpoint": address}
    assert client.subscribe(**asked)["SubscriptionArn"] == "pending confirmation"
    arn = client.subscribe(**asked, ReturnSubscriptionArn=True)["SubscriptionArn"]
    assert (
        client.get_subscription_attributes(SubscriptionArn=arn)["Attributes"]["PendingConfirmation"] == "true"
    )
    (listed,) = client.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]
    assert listed["SubscriptionArn"] == "PendingConfirmation"
    counts = client.get_topic_attributes(TopicArn=topic)["Attributes"]
    assert (counts["SubscriptionsPending"], counts["SubscriptionsConfirmed"]) == ("1", "0")

    with pytest.raises(ClientError, match="Token"):
        client.confirm_subscription(TopicArn=topic, Token="made up")
    (mail,) = emails_to(cloud, address)
    assert client.confirm_subscription(TopicArn=topic, Token=mail["token"])["SubscriptionArn"] == arn
    (listed,) = client.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]
    assert listed["SubscriptionArn"] == arn
    assert client.get_topic_attributes(TopicArn=topic)["Attributes"]["SubscriptionsConfirmed"] == "1"


def test_emails_are_recorded(cloud: EmbeddedCloud) -> None:
    client, address = cloud.client("sns"), f"{unique('a')}@example.com"
    subscription = {"Protocol": "email", "Endpoint": address}
    topic_resource = resource("AWS::SNS::Topic", Subscription=[subscription])
    outputs = {"Arn": {"Value": {"Ref": "T"}}}
    topic = create_stack(cloud, {"Resources": {"T": topic_resource}, "Outputs": outputs})["Outputs"]["Arn"]
    sent = client.publish(TopicArn=topic, Subject="Run r-1", Message='"Failed: ü"\n"See logs"')
    structured = json.dumps({"default": "short", "email": "long"})
    client.publish(TopicArn=topic, Message=structured, MessageStructure="json")
    client.publish_batch(TopicArn=topic, PublishBatchRequestEntries=[{"Id": "1", "Message": "batched"}])
    asked, first, second, third = emails_to(cloud, address)
    assert asked["subject"] == "AWS Notification - Subscription Confirmation"
    assert (first["subject"], first["message"]) == ("Run r-1", '"Failed: ü"\n"See logs"')
    assert (first["topic_arn"], first["message_id"]) == (topic, sent["MessageId"])
    assert first["confirmed"] is False
    assert (second["subject"], second["message"]) == ("AWS Notification Message", "long")
    assert third["message"] == "batched"


def test_filters_apply_to_emails(cloud: EmbeddedCloud) -> None:
    client, topic, address = cloud.client("sns"), make_topic(cloud), f"{unique('a')}@example.com"
    client.subscribe(
        TopicArn=topic,
        Protocol="email-json",
        Endpoint=address,
        Attributes={"FilterPolicy": json.dumps({"status": ["FAILED"]})},
    )
    for status in ("SUCCEEDED", "FAILED"):
        attributes = {"status": {"DataType": "String", "StringValue": status}}
        client.publish(TopicArn=topic, Message=status, MessageAttributes=attributes)
    _, only = emails_to(cloud, address)
    assert json.loads(only["message"])["Message"] == "FAILED"

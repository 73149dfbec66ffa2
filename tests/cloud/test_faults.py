"""Failures that are asked for happen, to what was asked, as often as was asked; and nothing else does."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError, ResponseStreamingError

from tests.cloud.helpers import invoke, make_function, make_queue, queue_arn, unique
from workflows.embedded_cloud import EmbeddedCloud, server
from workflows.embedded_cloud.errors import EmbeddedCloudError
from workflows.embedded_cloud.faults import FAULTS

ONCE = {"total_max_attempts": 1}


@pytest.fixture
def failing(cloud: EmbeddedCloud) -> Iterator[EmbeddedCloud]:
    yield cloud
    cloud.fail([])


@pytest.fixture
def bucket(cloud: EmbeddedCloud) -> str:
    name = unique("faults")
    cloud.client("s3").create_bucket(Bucket=name)
    return name


def received(cloud: EmbeddedCloud, url: str, seconds: float = 1.0) -> list[dict[str, Any]]:
    """What comes out of a queue until nothing has for a while."""
    found: list[dict[str, Any]] = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        answer = cloud.client("sqs").receive_message(
            QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=1, MessageAttributeNames=["All"]
        )
        found += answer.get("Messages", [])
    return found


@pytest.mark.parametrize(
    ("fault", "code", "status"), [("throttle", "SlowDown", 503), ("unavailable", "ServiceUnavailable", 503)]
)
def test_s3_refuses(failing: EmbeddedCloud, bucket: str, fault: str, code: str, status: int) -> None:
    failing.fail([{"service": "s3", "operation": "PutObject", "fault": fault, "skip": 1, "times": 1}])
    s3 = failing.client("s3", retries=ONCE)
    s3.put_object(Bucket=bucket, Key="first", Body=b"")
    with pytest.raises(ClientError) as refused:
        s3.put_object(Bucket=bucket, Key="second", Body=b"")
    assert refused.value.response["Error"]["Code"] == code
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == status
    s3.put_object(Bucket=bucket, Key="third", Body=b"")
    keys = [each["Key"] for each in s3.list_objects_v2(Bucket=bucket)["Contents"]]
    assert keys == ["first", "third"]
    assert [each["fault"] for each in failing.failures()] == [fault]


@pytest.mark.parametrize(
    ("service", "operation", "code"),
    [
        ("sqs", "SendMessage", "RequestThrottled"),
        ("sns", "Publish", "Throttled"),
        ("lambda", "Invoke", "TooManyRequestsException"),
    ],
)
def test_each_service_has_its_own_words(
    failing: EmbeddedCloud, service: str, operation: str, code: str
) -> None:
    url = make_queue(failing)
    topic = failing.client("sns").create_topic(Name=unique("t"))["TopicArn"]
    calls: dict[str, Any] = {
        "sqs": lambda client: client.send_message(QueueUrl=url, MessageBody="b"),
        "sns": lambda client: client.publish(TopicArn=topic, Message="m"),
        "lambda": lambda client: client.invoke(FunctionName="none"),
    }
    failing.fail([{"service": service, "operation": operation, "fault": "throttle"}])
    with pytest.raises(ClientError) as refused:
        calls[service](failing.client(service, retries=ONCE))
    assert refused.value.response["Error"]["Code"] == code


def test_a_dropped_response_was_applied(failing: EmbeddedCloud, bucket: str) -> None:
    failing.fail([{"service": "s3", "operation": "PutObject", "fault": "drop_response", "times": 1}])
    with pytest.raises(ConnectionClosedError):
        failing.client("s3", retries=ONCE).put_object(Bucket=bucket, Key="k", Body=b"there")
    assert failing.client("s3").get_object(Bucket=bucket, Key="k")["Body"].read() == b"there"


def test_a_duplicated_request_is_applied_twice(failing: EmbeddedCloud, bucket: str) -> None:
    failing.fail([{"service": "s3", "operation": "PutObject", "fault": "duplicate", "where": "once"}])
    s3 = failing.client("s3", retries=ONCE)
    with pytest.raises(ClientError, match="PreconditionFailed"):
        s3.put_object(Bucket=bucket, Key="once", Body=b"", IfNoneMatch="*")
    s3.put_object(Bucket=bucket, Key="other", Body=b"", IfNoneMatch="*")


@pytest.mark.parametrize("service", ["sqs", "sns"])
def test_a_batch_is_taken_in_part(failing: EmbeddedCloud, service: str) -> None:
    url = make_queue(failing)
    operation = "SendMessageBatch" if service == "sqs" else "PublishBatch"
    sns = failing.client("sns")
    topic = sns.create_topic(Name=unique("t"))["TopicArn"]
    sns.subscribe(
        TopicArn=topic,
        Protocol="sqs",
        Endpoint=queue_arn(url),
        Attributes={"RawMessageDelivery": "true"},
    )
    failing.fail([{"service": service, "operation": operation, "fault": "partial", "times": 1}], seed=3)
    bodies = {str(i): f"body {i}" for i in range(5)}
    if service == "sqs":
        entries = [{"Id": i, "MessageBody": body} for i, body in bodies.items()]
        answer = failing.client("sqs").send_message_batch(QueueUrl=url, Entries=entries)
    else:
        entries = [{"Id": i, "Message": body} for i, body in bodies.items()]
        answer = sns.publish_batch(TopicArn=topic, PublishBatchRequestEntries=entries)
    taken = {each["Id"] for each in answer["Successful"]}
    refused = {each["Id"] for each in answer["Failed"]}
    assert taken | refused == set(bodies)
    assert refused
    assert not any(each["SenderFault"] for each in answer["Failed"])
    assert {message["Body"] for message in received(failing, url)} == {bodies[i] for i in taken}


def test_deliveries(failing: EmbeddedCloud) -> None:
    url = make_queue(failing)
    sqs = failing.client("sqs")
    failing.fail(
        [
            {"service": "sqs", "operation": "Delivery", "fault": "duplicate", "where": "twice"},
            {"service": "sqs", "operation": "Delivery", "fault": "delay", "where": "late", "seconds": 0.7},
            {"service": "sqs", "operation": "Delivery", "fault": "flip", "where": "damaged"},
        ],
        seed=1,
    )
    data = {"data": {"DataType": "Binary", "BinaryValue": b"\0" * 8}}
    for body in ("late", "twice", "damaged", "plain"):
        sqs.send_message(QueueUrl=url, MessageBody=body, MessageAttributes=data)
    found = received(failing, url, 1.5)
    assert sorted(message["Body"] for message in found) == ["damaged", "late", "plain", "twice", "twice"]
    assert found[-1]["Body"] == "late"
    values = {message["Body"]: message["MessageAttributes"]["data"]["BinaryValue"] for message in found}
    assert sum(byte.bit_count() for byte in values["damaged"]) == 1
    assert values["plain"] == b"\0" * 8


def test_messages_come_in_another_order(failing: EmbeddedCloud) -> None:
    url = make_queue(failing)
    failing.fail([{"service": "sqs", "operation": "Delivery", "fault": "reorder", "seconds": 0.5}], seed=1)
    bodies = [str(i) for i in range(10)]
    for body in bodies:
        failing.client("sqs").send_message(QueueUrl=url, MessageBody=body)
    found = [message["Body"] for message in received(failing, url, 1.5)]
    assert sorted(found) == bodies
    assert found != bodies


def test_answers_are_damaged(failing: EmbeddedCloud, bucket: str) -> None:
    s3 = failing.client("s3", retries=ONCE, response_checksum_validation="when_required")
    s3.put_object(Bucket=bucket, Key="k", Body=b"\0" * 100)
    get = {"service": "s3", "operation": "GetObject", "times": 1}
    failing.fail([{**get, "fault": "flip"}])
    body = s3.get_object(Bucket=bucket, Key="k")["Body"].read()
    assert sum(byte.bit_count() for byte in body) == 1
    failing.fail([{**get, "fault": "truncate"}])
    with pytest.raises(ResponseStreamingError):
        s3.get_object(Bucket=bucket, Key="k")["Body"].read()
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"\0" * 100


WRITER = """
import boto3, time

def handler(event, context):
    s3 = boto3.client("s3")
    began = time.time()
    for key in event["keys"]:
        s3.put_object(Bucket=event["bucket"], Key=key, Body=b"")
    return time.time() - began
"""


@pytest.mark.parametrize(("when", "left"), [("before", ["1"]), ("after", ["1", "2"])])
def test_a_function_is_killed_at_a_named_point(
    failing: EmbeddedCloud, bucket: str, when: str, left: list[str]
) -> None:
    function = make_function(failing, WRITER)
    failing.fail(
        [
            {
                "service": "s3",
                "operation": "PutObject",
                "where": f"{bucket}/2",
                "fault": "kill",
                "when": when,
                "times": 1,
            }
        ]
    )
    answer, whole = invoke(failing, function, {"bucket": bucket, "keys": ["1", "2", "3"]})
    assert whole["FunctionError"] == "Unhandled"
    assert answer["errorType"] == "Runtime.ExitError"
    if when == "after":
        listed = failing.client("s3").list_objects_v2(Bucket=bucket)["Contents"]
        assert [each["Key"] for each in listed] == left


def test_a_function_freezes_for_seconds(failing: EmbeddedCloud, bucket: str) -> None:
    function = make_function(failing, WRITER)
    failing.fail([{"service": "s3", "operation": "PutObject", "fault": "freeze", "seconds": 1.0, "times": 1}])
    seconds, _ = invoke(failing, function, {"bucket": bucket, "keys": ["1"]})
    assert seconds >= 0.9


def test_a_function_starts_late(failing: EmbeddedCloud) -> None:
    function = make_function(failing)
    failing.fail(
        [{"service": "lambda", "operation": "Invoke", "where": function, "fault": "delay", "seconds": 0.8}]
    )
    began = time.monotonic()
    invoke(failing, function)
    assert time.monotonic() - began >= 0.8


def test_the_same_seed_draws_the_same(failing: EmbeddedCloud, bucket: str) -> None:
    rules = [{"service": "s3", "operation": "HeadObject", "fault": "throttle", "probability": 0.5}]

    def outcome(seed: int) -> list[bool]:
        failing.fail(rules, seed)
        s3 = failing.client("s3", retries=ONCE)
        found = []
        for _ in range(12):
            try:
                s3.head_object(Bucket=bucket, Key="none")
            except ClientError as error:
                found.append(error.response["ResponseMetadata"]["HTTPStatusCode"] == 503)
        return found

    first, again, other = outcome(1), outcome(1), outcome(2)
    assert first == again
    assert set(first) == {True, False}
    assert first != other


@pytest.mark.parametrize(
    "rule",
    [
        {"fault": "nothing"},
        {"fault": "reorder", "service": "s3"},
        {"fault": "kill", "operation": "Delivery"},
        {"fault": "throttle", "probability": 2},
        {"fault": "throttle", "where": "("},
        {"fault": "throttle", "unknown": 1},
        {},
    ],
)
def test_a_rule_that_is_none_is_refused(failing: EmbeddedCloud, rule: dict[str, Any]) -> None:
    with pytest.raises(EmbeddedCloudError, match="rule 0"):
        failing.fail([rule])


def test_every_fault_is_in_the_docs() -> None:
    table = Path(server.__file__).with_name("README.md").read_text()
    assert [name for name in FAULTS if f"| `{name}` |" not in table] == []

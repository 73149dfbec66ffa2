"""The meter, on real boto3 clients whose HTTP never leaves the process."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from botocore.config import Config
from botocore.exceptions import ClientError, EndpointConnectionError
from moto import mock_aws

from lamella.metering import Count, Meter, Usage

KIB = 1024


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> Iterator[boto3.Session]:
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        yield boto3.Session("testing", "testing", region_name="us-east-1")


@pytest.fixture
def meter(session: boto3.Session) -> Meter:
    meter = Meter()
    meter.attach(session)
    return meter


def test_s3_by_tier_and_bytes(session: boto3.Session, meter: Meter) -> None:
    s3 = session.client("s3")
    s3.create_bucket(Bucket="bucket")
    s3.put_object(Bucket="bucket", Key="k", Body=b"x" * 1000)
    s3.put_object(Bucket="bucket", Key="k", Body=io.BytesIO(b"x" * 500))
    s3.put_object(Bucket="bucket", Key="k", Body="é" * 10)
    s3.put_object(Bucket="bucket", Key="empty")
    assert (
        s3.get_object(Bucket="bucket", Key="k", Range="bytes=0-6")["Body"].read() == ("é" * 10).encode()[:7]
    )
    s3.head_object(Bucket="bucket", Key="k")
    s3.list_objects_v2(Bucket="bucket")
    s3.delete_object(Bucket="bucket", Key="k")
    assert meter.usage().to_json() == {
        "s3.create_bucket": {"calls": 1, "billed": 1, "bytes": 0},
        "s3.delete_object": {"calls": 1, "billed": 0, "bytes": 0},
        "s3.get_object": {"calls": 1, "billed": 1, "bytes": 7},
        "s3.head_object": {"calls": 1, "billed": 1, "bytes": 0},
        "s3.list_objects_v2": {"calls": 1, "billed": 1, "bytes": 0},
        "s3.put_object": {"calls": 4, "billed": 4, "bytes": 1520},
    }


def test_a_missing_key_is_billed(session: boto3.Session, meter: Meter) -> None:
    s3 = session.client("s3")
    s3.create_bucket(Bucket="bucket")
    for _ in range(2):
        with pytest.raises(ClientError):
            s3.get_object(Bucket="bucket", Key="k")
    assert meter.usage().count("s3.get_object") == Count(2, 2, 0)


@pytest.mark.parametrize(
    ("sizes", "billed"),
    [([1], 1), ([64 * KIB], 1), ([64 * KIB + 1], 2), ([40 * KIB] * 2, 2), ([25 * KIB] * 10, 4)],
)
def test_sns_bills_a_batch_whole(session: boto3.Session, meter: Meter, sizes: list[int], billed: int) -> None:
    sns = session.client("sns")
    topic = sns.create_topic(Name="t")["TopicArn"]
    sns.publish_batch(
        TopicArn=topic,
        PublishBatchRequestEntries=[{"Id": str(i), "Message": "m" * size} for i, size in enumerate(sizes)],
    )
    assert meter.usage().count("sns.publish_batch") == Count(1, billed, sum(sizes))
    assert meter.usage().count("sns.create_topic") == Count(1, 1, 0)


def test_attributes_are_payload(session: boto3.Session, meter: Meter) -> None:
    sns = session.client("sns")
    topic = sns.create_topic(Name="t")["TopicArn"]
    attributes: Any = {
        "slot": {"DataType": "String", "StringValue": "17"},
        "body": {"DataType": "Binary", "BinaryValue": bytes(64 * KIB - 24)},
    }
    sns.publish(TopicArn=topic, Message="m", MessageAttributes=attributes)
    size = 1 + len("slot" + "String" + "17" + "body" + "Binary") + 64 * KIB - 24
    assert size == 64 * KIB - 1
    assert meter.take().count("sns.publish") == Count(1, 1, size)
    sns.publish(TopicArn=topic, Message="mmm", MessageAttributes=attributes)
    assert meter.take().count("sns.publish") == Count(1, 2, size + 2)


def test_text_is_measured_in_bytes(session: boto3.Session, meter: Meter) -> None:
    sns = session.client("sns")
    sns.publish(TopicArn=sns.create_topic(Name="t")["TopicArn"], Message="é" * 40 * KIB)
    assert meter.usage().count("sns.publish") == Count(1, 2, 80 * KIB)


def test_sqs_bills_what_is_sent_and_what_is_received(session: boto3.Session, meter: Meter) -> None:
    sqs = session.client("sqs")
    url = sqs.create_queue(QueueName="q")["QueueUrl"]
    assert "Messages" not in sqs.receive_message(QueueUrl=url)
    attributes: Any = {"a": {"DataType": "Binary", "BinaryValue": b"xyz"}}
    sqs.send_message(QueueUrl=url, MessageBody="b" * 64 * KIB, MessageAttributes=attributes)
    size = 64 * KIB + 10
    got = sqs.receive_message(QueueUrl=url, MessageAttributeNames=["All"])["Messages"]
    sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=got[0]["ReceiptHandle"], VisibilityTimeout=10)
    sqs.delete_message(QueueUrl=url, ReceiptHandle=got[0]["ReceiptHandle"])
    sqs.send_message_batch(
        QueueUrl=url, Entries=[{"Id": str(i), "MessageBody": "b" * 20 * KIB} for i in range(4)]
    )
    usage = meter.usage()
    assert usage.count("sqs.receive_message") == Count(2, 1 + 2, size)
    assert usage.count("sqs.send_message") == Count(1, 2, size)
    assert usage.count("sqs.send_message_batch") == Count(1, 2, 80 * KIB)
    assert usage.count("sqs.delete_message") == Count(1, 1, 0)
    assert usage.count("sqs.change_message_visibility") == Count(1, 1, 0)


def test_free_calls_are_counted_and_not_billed(session: boto3.Session, meter: Meter) -> None:
    session.client("stepfunctions").list_state_machines()
    session.client("lambda").list_functions()
    assert meter.usage() == Usage(
        {"stepfunctions.list_state_machines": Count(1, 0, 0), "lambda.list_functions": Count(1, 0, 0)}
    )


def answering(client: Any, *answers: tuple[int, bytes] | Exception) -> None:
    """Make a client get these answers, one after the other, instead of sending anything."""
    left = iter(answers)

    def answer(request: Any, **_: Any) -> AWSResponse:
        given = next(left)
        if isinstance(given, Exception):
            raise given
        status, body = given
        raw = io.BytesIO(body)
        raw.stream = lambda amount=None, decode_content=False: iter([body])  # type: ignore[attr-defined]
        return AWSResponse(request.url, status, HTTPHeaders(), raw)

    client.meta.events.register_first("before-send", answer)


def client(service: str) -> Any:
    retry = Config(retries={"mode": "standard", "max_attempts": 5})
    return boto3.client(  # type: ignore[call-overload]
        service, "us-east-1", aws_access_key_id="x", aws_secret_access_key="x", config=retry
    )


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda _: None)


@pytest.mark.usefixtures("no_waiting")
def test_every_attempt_counts() -> None:
    meter, sqs, s3 = Meter(), client("sqs"), client("s3")
    meter.attach(sqs, s3)
    body = json.dumps({"MessageId": "1", "MD5OfMessageBody": "92eb5ffee6ae2fec3ad71c777531578f"}).encode()
    lost = EndpointConnectionError(endpoint_url="https://sqs")
    answering(sqs, (503, b"{}"), lost, (200, body))
    sqs.send_message(QueueUrl="https://sqs.us-east-1.amazonaws.com/1/q", MessageBody="b")
    assert meter.usage().count("sqs.send_message") == Count(3, 3, 3)
    answering(s3, (503, b""), (503, b""), (200, b""))
    s3.put_object(Bucket="bucket", Key="k", Body=b"12345")
    assert meter.usage().count("s3.put_object") == Count(3, 1, 15)


def test_an_invocation_is_left_to_the_invoked() -> None:
    meter, functions = Meter(), client("lambda")
    meter.attach(functions)
    answering(functions, (200, b"{}"))
    functions.invoke(FunctionName="f")
    assert meter.usage() == Usage()


def test_a_call_that_is_never_sent_does_not_count(session: boto3.Session, meter: Meter) -> None:
    with pytest.raises(Exception, match="Parameter validation failed"):
        session.client("sns").publish(TopicArn="t", Message=7)  # type: ignore[arg-type]
    assert meter.usage() == Usage()


def test_attached_twice_counts_once(session: boto3.Session, meter: Meter) -> None:
    sqs = session.client("sqs")
    meter.attach(sqs, sqs)
    meter.attach(session)
    sqs.list_queues()
    assert meter.usage().count("sqs.list_queues").calls == 1


def test_two_meters_count_both(session: boto3.Session, meter: Meter) -> None:
    sqs = session.client("sqs")
    other = Meter()
    other.attach(sqs)
    sqs.list_queues()
    assert meter.usage() == other.usage() == Usage({"sqs.list_queues": Count(1, 1, 0)})


def test_take_begins_again(session: boto3.Session, meter: Meter) -> None:
    sqs = session.client("sqs")
    sqs.list_queues()
    assert meter.take().count("sqs.list_queues").calls == 1
    assert meter.usage() == Usage()
    sqs.list_queues()
    assert meter.take().count("sqs.list_queues").calls == 1


def test_threads_lose_nothing() -> None:
    meter, s3 = Meter(), client("s3")
    meter.attach(s3)
    answering(s3, *[(200, b"")] * 200)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: s3.put_object(Bucket="bucket", Key=str(i), Body=b"12"), range(200)))
    assert meter.usage().count("s3.put_object") == Count(200, 200, 400)

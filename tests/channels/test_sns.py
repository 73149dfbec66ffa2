"""The SNS channel passes the contract over a deployed stack, packs to the limits, and loses nothing."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella.abort import LOOK_EVERY_S
from lamella.channels import Delivery
from lamella.channels.drain import drain
from lamella.channels.objects import Objects
from lamella.channels.packing import BATCH_ENTRIES
from lamella.channels.queue_end import DELETE_WITHIN_S, VISIBILITY_S
from lamella.channels.sns import SnsChannel
from lamella.channels.wire import DATA, SLOT
from lamella.client import Stack
from lamella.errors import CloudError
from lamella.plan import SnsAddress
from lamella.slots import slot_name
from lamella.storage import Bucket
from lamella.usage import billed_requests
from tests.channels.contract import FROM_0, PLACE, ChannelContract, Gang
from tests.channels.faults import Service
from workflows.embedded_cloud import EmbeddedCloud

WORKERS = 4


class TestSns(ChannelContract):
    @pytest.fixture
    def service(self, cloud: EmbeddedCloud) -> Service:
        return Service(cloud, "sns", "sqs", "s3")

    @pytest.fixture
    def gang(self, cloud: EmbeddedCloud, service: Service, stack: Stack) -> Iterator[Gang]:
        sqs, sns = service.client("sqs"), service.client("sns")
        place = Bucket(service.client("s3"), stack.bucket, f"runs/contract-{uuid.uuid4().hex}/")
        slots = tuple(range(WORKERS))
        urls = tuple(
            sqs.get_queue_url(QueueName=f"{stack.name}-slot-{slot_name(slot)}")["QueueUrl"] for slot in slots
        )
        (topic,) = [t["TopicArn"] for t in sns.list_topics()["Topics"] if f":{stack.name}-" in t["TopicArn"]]
        address = SnsAddress(topic, slots, urls)
        ends: list[SnsChannel] = []

        def make(workers: int) -> Sequence[SnsChannel]:
            ends.extend(
                SnsChannel(sns, sqs, address, worker, Objects(place, worker)) for worker in range(workers)
            )
            return ends

        yield make
        for end in ends:
            end.close()
        place.delete(place.sizes())
        drain(cloud.client("sqs"), urls, time.monotonic, time.sleep)

    def test_draining_leaves_nothing_not_even_what_is_held(self, gang: Gang, cloud: EmbeddedCloud) -> None:
        a, b = gang(2)
        a.send(PLACE, [(1, b"x")] * 25)
        assert b.receive(FROM_0, 2)
        url = b._queue_url  # type: ignore[attr-defined]
        waited: list[float] = []
        now = [0.0]

        def sleep(seconds: float) -> None:
            waited.append(seconds)
            now[0] += seconds
            time.sleep(seconds)

        drain(cloud.client("sqs"), [url], lambda: now[0], sleep)
        counts = cloud.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        assert counts["ApproximateNumberOfMessages"] == counts["ApproximateNumberOfMessagesNotVisible"] == "0"
        assert waited

    def test_draining_a_queue_that_somebody_has_deleted_is_no_error(self, cloud: EmbeddedCloud) -> None:
        sqs = cloud.client("sqs")
        gone, there = (sqs.create_queue(QueueName=name)["QueueUrl"] for name in ("gone", "there"))
        sqs.send_message(QueueUrl=there, MessageBody="x")
        sqs.delete_queue(QueueUrl=gone)
        drain(sqs, [gone, there], time.monotonic, time.sleep)
        counts = sqs.get_queue_attributes(QueueUrl=there, AttributeNames=["All"])["Attributes"]
        assert counts["ApproximateNumberOfMessages"] == "0"


class Recording:
    """An SNS client that takes everything, and keeps count."""

    def __init__(self) -> None:
        self.batches: list[list[dict[str, Any]]] = []

    def publish_batch(self, TopicArn: str, PublishBatchRequestEntries: list[dict[str, Any]]) -> Any:  # noqa: N803
        self.batches.append(PublishBatchRequestEntries)
        return {}


def published_bytes(entry: dict[str, Any]) -> int:
    """What SNS counts: body, and name, type and value of each attribute."""
    attributes = entry["MessageAttributes"].items()
    return len(entry["Message"]) + sum(
        len(name) + len(given["DataType"]) + len(given.get("StringValue") or given.get("BinaryValue") or b"")
        for name, given in attributes
    )


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 250_000)), max_size=30))
def test_batches_hold_every_message_once_and_stay_within_the_limits(sizes: list[tuple[int, int]]) -> None:
    messages = [(target, bytes(size)) for target, size in sizes]
    sns = Recording()
    channel(sns).send(PLACE, messages)
    entries = [entry["MessageAttributes"] for batch in sns.batches for entry in batch]
    sent = [(each[SLOT]["StringValue"], each[DATA]["BinaryValue"]) for each in entries]
    assert sorted(sent) == sorted((slot_name(target), data) for target, data in messages)
    for batch in sns.batches:
        assert 1 <= len(batch) <= BATCH_ENTRIES
        assert sum(published_bytes(entry) for entry in batch) <= 256 << 10


def test_small_messages_to_many_peers_are_billed_as_one() -> None:
    sns = Recording()
    channel(sns).send(PLACE, [(peer % 2, bytes(5000)) for peer in range(8)])
    (batch,) = sns.batches
    assert billed_requests(sum(published_bytes(entry) for entry in batch)) == 1


class Answering:
    """An SNS client that answers as told."""

    def __init__(self, answers: Sequence[dict[str, Any]]) -> None:
        self.answers = list(answers)
        self.calls: list[list[str]] = []

    def publish_batch(self, TopicArn: str, PublishBatchRequestEntries: list[dict[str, Any]]) -> Any:  # noqa: N803
        self.calls.append([entry["Id"] for entry in PublishBatchRequestEntries])
        return self.answers.pop(0)


def channel(sns: Answering | Recording) -> SnsChannel:
    address = SnsAddress("arn:topic", (0, 1), ("https://q0", "https://q1"))
    return SnsChannel(sns, None, address, 0)  # type: ignore[arg-type]


def failed(identity: str, *, sender_fault: bool) -> dict[str, Any]:
    return {"Failed": [{"Id": identity, "Code": "InternalError", "SenderFault": sender_fault}]}


def test_only_what_failed_is_sent_again() -> None:
    sns = Answering([failed("1", sender_fault=False), failed("1", sender_fault=False), {"Failed": []}])
    channel(sns).send(PLACE, [(1, b"a"), (1, b"b"), (1, b"c")])
    assert sns.calls == [["0", "1", "2"], ["1"], ["1"]]


def test_what_the_topic_refuses_is_an_error_at_once() -> None:
    sns = Answering([failed("0", sender_fault=True)])
    with pytest.raises(CloudError, match="arn:topic refused a message: InternalError"):
        channel(sns).send(PLACE, [(1, b"a")])
    assert len(sns.calls) == 1


class Deleting:
    """An SQS client that keeps count of deletions."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []

    def delete_message_batch(self, QueueUrl: str, Entries: list[dict[str, str]]) -> Any:  # noqa: N803
        self.batches.append([entry["ReceiptHandle"] for entry in Entries])
        return {}


def test_deletions_are_gathered_to_full_batches_and_the_rest_goes_at_close() -> None:
    sqs = Deleting()
    end = SnsChannel(None, sqs, SnsAddress("arn", (0,), ("https://q0",)), 0)  # type: ignore[arg-type]
    for i in range(23):
        end.acknowledge([Delivery(b"", str(i))])
    assert [len(batch) for batch in sqs.batches] == [10, 10]
    end.close()
    end.close()
    assert [receipt for batch in sqs.batches for receipt in batch] == [str(i) for i in range(23)]


def test_a_deletion_does_not_wait_for_the_visibility_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("lamella.channels.queue_end.time.monotonic", lambda: now[0])
    sqs = Deleting()
    end = SnsChannel(None, sqs, SnsAddress("arn", (0,), ("https://q0",)), 0)  # type: ignore[arg-type]
    end.acknowledge([Delivery(b"", "old")])
    end.acknowledge([])
    assert sqs.batches == []
    now[0] += DELETE_WITHIN_S
    end.acknowledge([])
    assert sqs.batches == [["old"]]
    assert DELETE_WITHIN_S + LOOK_EVERY_S < VISIBILITY_S


def test_what_never_succeeds_is_an_error() -> None:
    sns = Answering([failed("0", sender_fault=False)] * 6)
    with pytest.raises(CloudError, match="failed to take a message 6 times"):
        channel(sns).send(PLACE, [(1, b"a")])

"""The SQS channel passes the contract, packs to the limits, and loses nothing."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella.channels.objects import Objects
from lamella.channels.packing import BATCH_ENTRIES
from lamella.channels.sqs import SqsChannel
from lamella.channels.wire import DATA
from lamella.client import Stack
from lamella.errors import CloudError
from lamella.plan import SqsAddress
from lamella.storage import Bucket
from tests.channels.contract import PLACE, ChannelContract, Gang
from tests.channels.faults import Service
from workflows.embedded_cloud import EmbeddedCloud

WORKERS = 4


class TestSqs(ChannelContract):
    @pytest.fixture
    def service(self, cloud: EmbeddedCloud) -> Service:
        return Service(cloud, "sqs", "s3")

    @pytest.fixture
    def gang(self, service: Service, stack: Stack) -> Iterator[Gang]:
        sqs = service.client("sqs")
        place = Bucket(service.client("s3"), stack.bucket, f"runs/contract-{uuid.uuid4().hex}/")
        names = [f"contract-{uuid.uuid4().hex[:8]}-{worker}" for worker in range(WORKERS)]
        urls = tuple(sqs.create_queue(QueueName=name)["QueueUrl"] for name in names)
        ends: list[SqsChannel] = []

        def make(workers: int) -> Sequence[SqsChannel]:
            address = SqsAddress(urls)
            ends.extend(SqsChannel(sqs, address, worker, Objects(place, worker)) for worker in range(workers))
            return ends

        yield make
        for end in ends:
            end.close()
        place.delete(place.sizes())
        for url in urls:
            sqs.delete_queue(QueueUrl=url)


class Recording:
    """An SQS client that takes everything, but what it is told to refuse."""

    def __init__(self, refused: Sequence[dict[str, Any]] = ()) -> None:
        self.batches: list[tuple[str, list[dict[str, Any]]]] = []
        self.refused = list(refused)

    def send_message_batch(self, QueueUrl: str, Entries: list[dict[str, Any]]) -> Any:  # noqa: N803
        self.batches.append((QueueUrl, Entries))
        return {"Failed": [self.refused.pop(0)]} if self.refused else {}


def channel(sqs: Recording) -> SqsChannel:
    return SqsChannel(sqs, SqsAddress(("https://q0", "https://q1")), 0)  # type: ignore[arg-type]


def sent_bytes(entry: dict[str, Any]) -> int:
    """What SQS counts: body, and name, type and value of each attribute."""
    attributes = entry["MessageAttributes"].items()
    return len(entry["MessageBody"]) + sum(
        len(name) + len(given["DataType"]) + len(given["BinaryValue"]) for name, given in attributes
    )


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1_000_000)), max_size=24))
def test_each_target_gets_its_own_once_and_within_the_limits(sizes: list[tuple[int, int]]) -> None:
    messages = [(target, bytes(size)) for target, size in sizes]
    sqs = Recording()
    channel(sqs).send(PLACE, messages)
    for target in (0, 1):
        entries = [entry for url, batch in sqs.batches if url == f"https://q{target}" for entry in batch]
        got = [entry["MessageAttributes"][DATA]["BinaryValue"] for entry in entries]
        assert sorted(got) == sorted(data for to, data in messages if to == target)
    for _, batch in sqs.batches:
        assert 1 <= len(batch) <= BATCH_ENTRIES
        assert sum(sent_bytes(entry) for entry in batch) <= 1 << 20


def test_only_what_failed_is_sent_again() -> None:
    busy = {"Id": "1", "Code": "InternalError", "SenderFault": False}
    sqs = Recording([busy, busy])
    channel(sqs).send(PLACE, [(1, b"a"), (1, b"b"), (1, b"c")])
    assert [[entry["Id"] for entry in batch] for _, batch in sqs.batches] == [["0", "1", "2"], ["1"], ["1"]]


def test_what_the_queue_refuses_is_an_error_at_once() -> None:
    sqs = Recording([{"Id": "0", "Code": "InvalidMessageContents", "SenderFault": True}])
    with pytest.raises(CloudError, match="https://q1 refused a message: InvalidMessageContents"):
        channel(sqs).send(PLACE, [(1, b"a")])

"""The S3 channel passes the contract, writes one object a layer, and reads no more than its own."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella.channels.object_format import HEAD_BYTES, find, to_object
from lamella.channels.objects import Objects
from lamella.channels.s3 import S3Channel
from lamella.client import Stack
from lamella.errors import MessageError
from lamella.metering import Meter
from lamella.storage import Bucket
from tests.channels.contract import PLACE, ChannelContract, Gang, received
from tests.channels.faults import Service
from workflows.embedded_cloud import EmbeddedCloud


class TestS3(ChannelContract):
    @pytest.fixture
    def service(self, cloud: EmbeddedCloud) -> Service:
        return Service(cloud, "s3")

    @pytest.fixture
    def gang(self, service: Service, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gang]:
        monkeypatch.setattr(S3Channel, "max_message_bytes", 1 << 20)
        place = Bucket(service.client("s3"), stack.bucket, f"runs/contract-{uuid.uuid4().hex}/")
        ends: list[S3Channel] = []

        def make(workers: int) -> Sequence[S3Channel]:
            ends.extend(S3Channel(Objects(place, worker)) for worker in range(workers))
            return ends

        yield make
        for end in ends:
            end.close()
        place.delete(place.sizes())


@pytest.fixture
def metered(cloud: EmbeddedCloud, stack: Stack) -> tuple[Bucket, Meter]:
    client, meter = cloud.client("s3"), Meter()
    meter.attach(client)
    return Bucket(client, stack.bucket, f"runs/metered-{uuid.uuid4().hex}/"), meter


def test_all_peers_share_one_object_and_a_small_one_is_read_at_once(metered: tuple[Bucket, Meter]) -> None:
    place, meter = metered
    S3Channel(Objects(place, 0)).send(PLACE, [(peer, b"%d" % peer * 100) for peer in range(1, 8)])
    assert meter.take().to_json().keys() == {"s3.put_object"}
    for peer in range(1, 8):
        (delivery,) = received(S3Channel(Objects(place, peer)), 1)
        assert delivery.data == b"%d" % peer * 100
    assert {name: count.calls for name, count in meter.take().counts.items()} == {"s3.get_object": 7}


def test_of_a_large_object_a_peer_reads_the_head_and_its_own(metered: tuple[Bucket, Meter]) -> None:
    place, meter = metered
    S3Channel(Objects(place, 0)).send(PLACE, [(peer, bytes([peer]) * 200_000) for peer in range(1, 8)])
    meter.take()
    (delivery,) = received(S3Channel(Objects(place, 7)), 1)
    assert delivery.data == bytes([7]) * 200_000
    count = meter.take().count("s3.get_object")
    assert (count.calls, count.bytes) == (2, HEAD_BYTES + 200_000)


@given(st.lists(st.tuples(st.integers(0, 5), st.binary(max_size=50)), max_size=12))
def test_everyone_finds_their_own(messages: list[tuple[int, bytes]]) -> None:
    data = to_object(messages)
    for peer in range(6):
        own = [body for to, body in messages if to == peer]
        if not own:
            with pytest.raises(MessageError, match=f"nothing for worker {peer}"):
                find(data, peer, "s3://b/k")
            continue
        spans = find(data, peer, "s3://b/k")
        assert [data[start:stop] for start, stop in spans] == own
        assert all(one[1] == other[0] for one, other in pairwise(spans))


@given(st.binary(max_size=200), st.integers(0, 60), st.integers(0, 255))
def test_damaged_objects_are_refused(noise: bytes, at: int, byte: int) -> None:
    with pytest.raises(MessageError):
        find(noise, 0, "s3://b/k")
    data = bytearray(to_object([(0, b"abc"), (1, b"defg")]))
    data[min(at, len(data) - 1)] = byte
    try:
        spans = find(bytes(data), 1, "s3://b/k")
    except MessageError:
        return
    assert all(56 <= start <= stop for start, stop in spans)

"""Objects written piece by piece: by one request where they are small, else by parts, or not at all."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import boto3
import numpy as np
import pytest
from moto import mock_aws

from lamella import parts, uploads
from lamella.activations import Activations
from lamella.cost import cost, load_book
from lamella.dealing import Dealing
from lamella.errors import CloudError
from lamella.metering import Meter
from lamella.part_stream import PartStream
from lamella.part_writer import write_part
from lamella.parts import encoded_blocks
from lamella.records import Share
from lamella.storage import Bucket
from lamella.uploads import LEAST_PART_BYTES, MOST_PARTS, PART_BYTES, SENDERS, Upload, part_bytes_for
from lamella.usage import Count, Usage
from tests.parts import REPORT, MemoryFiles

PART = LEAST_PART_BYTES


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        client = boto3.Session("testing", "testing", region_name="us-east-1").client("s3")
        client.create_bucket(Bucket="bucket")
        yield Bucket(client, "bucket", "below/")


@pytest.fixture
def meter(bucket: Bucket) -> Meter:
    meter = Meter()
    meter.attach(bucket.client)
    return meter


def under_way(bucket: Bucket) -> list[Any]:
    return bucket.client.list_multipart_uploads(Bucket=bucket.bucket).get("Uploads", [])


def broken_off(bucket: Bucket, size: int) -> None:
    """An upload whose writer fails."""
    with Upload(bucket, "large", part_bytes=PART) as upload:
        upload.write(bytes(size))
        assert len(under_way(bucket)) == 1
        raise ZeroDivisionError


def uploaded(bucket: Bucket, size: int) -> None:
    with Upload(bucket, "large", part_bytes=PART) as upload:
        for _ in range(size // PART):
            upload.write(bytes(PART))
        upload.finish()


def pattern(size: int) -> bytes:
    return (b"0123456789a" * (size // 11 + 1))[:size]


@pytest.mark.parametrize("size", [0, 1, PART, PART + 1, 2 * PART])
def test_what_is_small_is_one_request(bucket: Bucket, meter: Meter, size: int) -> None:
    with Upload(bucket, "small", "text/csv", part_bytes=PART) as upload:
        upload.write(pattern(size))
        upload.finish(b"head")

    assert meter.usage() == Usage({"s3.put_object": Count(1, 1, size + 4)})
    assert bucket.read("small") == b"head" + pattern(size)
    assert bucket.client.head_object(Bucket="bucket", Key="below/small")["ContentType"] == "text/csv"


@pytest.mark.parametrize("size", [2 * PART + 1, 3 * PART, 7 * PART + 11])
@pytest.mark.parametrize("piece", [PART // 3 + 1, 4 * PART])
def test_what_is_large_is_sent_by_parts_its_head_last(
    bucket: Bucket, meter: Meter, size: int, piece: int
) -> None:
    data = pattern(size)
    with Upload(bucket, "large", "text/csv", part_bytes=PART) as upload:
        for start in range(0, size, piece):
            upload.write(memoryview(data)[start : start + piece])
        upload.settle()
        ending, before = upload.ending(4), meter.usage()
        upload.finish(b"head")

    parts = -(-size // PART)
    assert before + ending == meter.usage()
    assert meter.usage() == Usage(
        {
            "s3.create_multipart_upload": Count(1, 1, 0),
            "s3.upload_part": Count(parts, parts, size + 4),
            "s3.complete_multipart_upload": Count(1, 1, 0),
        }
    )
    assert bucket.read("large") == b"head" + data
    assert bucket.client.head_object(Bucket="bucket", Key="below/large")["ContentType"] == "text/csv"
    assert under_way(bucket) == []


@pytest.mark.parametrize(("size", "puts"), [(6 * PART, 1), (6 * PART + 1, 0)])
def test_what_is_expected_to_be_no_more_than_is_held_anyway_is_one_request(
    bucket: Bucket, meter: Meter, monkeypatch: pytest.MonkeyPatch, size: int, puts: int
) -> None:
    assert SENDERS + 2 == 6
    monkeypatch.setattr(uploads, "PART_BYTES", PART)
    with Upload(bucket, "expected", expected_bytes=size) as upload:
        upload.write(pattern(size))
        upload.finish()

    assert meter.usage().count("s3.put_object").calls == puts
    assert meter.usage().count("s3.create_multipart_upload").calls == 1 - puts
    assert bucket.read("expected") == pattern(size)


def test_each_request_of_an_upload_is_priced_as_a_put(bucket: Bucket, meter: Meter) -> None:
    uploaded(bucket, 3 * PART)

    book = load_book()
    assert cost(meter.usage(), book)["s3"] == pytest.approx(5 * 5e-6)


def test_an_upload_that_is_broken_off_leaves_nothing(bucket: Bucket, meter: Meter) -> None:
    with pytest.raises(ZeroDivisionError):
        broken_off(bucket, 4 * PART)

    assert under_way(bucket) == []
    assert bucket.sizes() == {}
    assert meter.usage().count("s3.abort_multipart_upload") == Count(1, 0, 0)


def test_an_object_of_before_stays_until_the_new_one_is_whole(bucket: Bucket) -> None:
    bucket.write("large", b"before")
    with pytest.raises(ZeroDivisionError):
        broken_off(bucket, 4 * PART)
    assert bucket.read("large") == b"before"

    for _ in range(2):
        uploaded(bucket, 3 * PART)
    assert bucket.read("large") == bytes(3 * PART)


@pytest.mark.parametrize("operation", ["create_multipart_upload", "upload_part", "complete_multipart_upload"])
def test_what_s3_refuses_is_one_clear_error(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    refusal = bucket.client.exceptions.ClientError(
        {"Error": {"Code": "AccessDenied", "Message": "no"}}, operation
    )

    def refuse(**_: Any) -> None:
        raise refusal

    monkeypatch.setattr(bucket.client, operation, refuse)
    told = r"^writing s3://bucket/below/large failed: .*AccessDenied"
    with pytest.raises(CloudError, match=told):
        uploaded(bucket, (SENDERS + 4) * PART)
    monkeypatch.undo()
    assert under_way(bucket) == []


def test_memory_does_not_grow_with_the_object(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bucket.client, "upload_part", lambda **_: {"ETag": '"tag"'})
    monkeypatch.setattr(bucket.client, "complete_multipart_upload", lambda **_: None)
    piece = bytes(PART // 2)
    tracemalloc.start()
    try:
        with Upload(bucket, "large", part_bytes=PART) as upload:
            for _ in range(60):
                upload.write(piece)
            upload.finish()
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak_bytes < (SENDERS + 4) * PART


@pytest.mark.parametrize("expected", [0, 10**9, 10**12, 5 << 40])
def test_parts_are_within_the_limits_of_s3(expected: int) -> None:
    size = part_bytes_for(expected)

    assert size >= PART_BYTES >= LEAST_PART_BYTES
    # One more for the head.
    assert -(-expected // size) + 1 <= MOST_PARTS
    assert size <= 5 << 30


@pytest.mark.parametrize("samples", [1, 40, 400])
def test_a_part_counts_the_requests_that_write_it(
    bucket: Bucket, meter: Meter, monkeypatch: pytest.MonkeyPatch, samples: int
) -> None:
    """Small ones are one PUT; the largest here has several parts, the first of which is sent last."""
    monkeypatch.setattr(uploads, "PART_BYTES", 1000)
    monkeypatch.setattr("moto.s3.models.S3_UPLOAD_PART_MIN_SIZE", 1)
    monkeypatch.setattr(parts, "BLOCK_BYTES", 4 * 10 * 8)
    share = Share((20, 30), (0, samples))
    values = np.random.default_rng(1).random((10, samples), np.float32)
    output = Activations(np.arange(samples), values)
    write_part(bucket, "0", encoded_blocks(output, share, 1), share, 1, REPORT, meter.usage)
    used = meter.usage()

    data = bucket.read("0")
    assert data[8:].startswith(b'{"__metadata__"')
    with PartStream(MemoryFiles({"0": data}), str, [share], Dealing()) as stream:
        (report,) = stream.reports
        found = [piece.values for _, piece in stream.pieces((0, samples))]
    assert replace(report, usage={}) == REPORT
    assert Usage.from_json(report.usage) == used
    assert ("s3.put_object" in used.counts) == (samples < 400)
    assert np.concatenate(found, axis=1).tobytes() == values.tobytes()


@pytest.mark.parametrize("size", [10, 2 * PART + 1])
def test_what_is_written_once_is_not_replaced(bucket: Bucket, size: int) -> None:
    for content, is_first in ((b"a", True), (b"b", False)):
        with Upload(bucket, "part", part_bytes=PART, once=True) as upload:
            upload.write(content * size)
            upload.settle()
            assert upload.finish() is is_first
    assert bucket.read("part") == b"a" * size
    assert under_way(bucket) == []

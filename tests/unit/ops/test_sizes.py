"""How large objects are is asked in the cheaper way."""

from __future__ import annotations

from collections.abc import Iterator

import boto3
import pytest
from moto import mock_aws

from lamella.metering import Meter
from lamella.storage import HEADS_FOR_A_LIST, Bucket


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Bucket, Meter]]:
    """A prefix with 20 objects, of 0 to 19 bytes, and what was asked of it."""
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        client = boto3.client(
            "s3", region_name="us-east-1", aws_access_key_id="testing", aws_secret_access_key="testing"
        )
        client.create_bucket(Bucket="bucket")
        bucket = Bucket(client, "bucket", "models/m/")
        for size in range(20):
            bucket.write(f"w-{size}", bytes(size))
        meter = Meter()
        meter.attach(client)
        yield bucket, meter


@pytest.mark.parametrize(
    ("named", "heads", "lists"), [(HEADS_FOR_A_LIST, HEADS_FOR_A_LIST, 0), (HEADS_FOR_A_LIST + 1, 0, 1)]
)
def test_few_by_heads_and_many_by_a_list(
    held: tuple[Bucket, Meter], named: int, heads: int, lists: int
) -> None:
    bucket, meter = held
    assert bucket.sizes_of([f"w-{size}" for size in range(named)]) == {f"w-{i}": i for i in range(named)}
    usage = meter.usage()
    assert usage.count("s3.head_object").calls == heads
    assert usage.count("s3.list_objects_v2").calls == lists


@pytest.mark.parametrize("named", [2, 30])
def test_what_is_not_there_is_left_out(held: tuple[Bucket, Meter], named: int) -> None:
    bucket, _ = held
    paths = [f"w-{size}" for size in range(19, 19 + named)]
    assert bucket.sizes_of(paths) == {"w-19": 19}

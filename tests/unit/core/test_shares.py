"""Workers' shares of the input: written block by block, in memory that does not grow with them."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from typing import Any

import boto3
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from moto import mock_aws

from lamella import shares
from lamella.inputs import Batch
from lamella.inputs.sparse import SparseRows
from lamella.shares import (
    SMALL_BYTES,
    SMALL_DENSE_BYTES,
    share_from_bytes,
    share_to_bytes,
    small_share,
    write_share,
    writing_bytes,
)
from lamella.storage import Bucket

MIB = 1 << 20


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        client = boto3.Session("testing", "testing", region_name="us-east-1").client("s3")
        client.create_bucket(Bucket="bucket")
        yield Bucket(client, "bucket")


def full(features: int, samples: int) -> Batch:
    """A batch without zeros."""
    values = np.random.default_rng(7).random(features * samples, np.float32) + np.float32(1)
    starts = np.arange(features + 1) * samples
    columns = np.tile(np.arange(samples, dtype=np.int32), features)
    return Batch(SparseRows((features, samples), starts, columns, values), 0)


@settings(deadline=None)
@given(st.integers(1, 9), st.integers(1, 40), st.sampled_from([1, 64, 10**6]), st.data())
def test_a_share_is_read_as_it_was_written(
    features: int, samples: int, block_bytes: int, data: st.DataObject
) -> None:
    batch = full(features, samples)
    rows = data.draw(st.none() | st.lists(st.integers(0, features - 1), unique=True, min_size=1))
    start = data.draw(st.integers(0, samples - 1))
    stop = data.draw(st.integers(start + 1, samples))
    chosen = None if rows is None else np.array(rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shares, "BLOCK_BYTES", block_bytes)
        written = share_to_bytes(batch, chosen, (start, stop))
        found = share_from_bytes(written, len(rows or range(features)), (start, stop), "share")

    expected = batch.matrix.toarray()[slice(None) if rows is None else rows, start:stop]
    assert found.live.tolist() == list(range(start, stop))
    assert found.values.tobytes() == np.ascontiguousarray(expected).tobytes()


def test_a_large_share_is_never_held_whole(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []

    def swallow(**request: Any) -> dict[str, str]:
        sent.append(len(request["Body"]))
        return {"ETag": '"tag"'}

    monkeypatch.setattr(bucket.client, "upload_part", swallow)
    monkeypatch.setattr(bucket.client, "complete_multipart_upload", lambda **_: None)
    monkeypatch.setattr(shares, "BLOCK_BYTES", MIB)
    monkeypatch.setattr("lamella.uploads.PART_BYTES", MIB)
    monkeypatch.setattr(shares, "PART_BYTES", MIB)
    batch = full(256, 44_000)
    tracemalloc.start()
    try:
        write_share(bucket, "share", batch, None, (0, 44_000))
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    # Beside what `writing_bytes` counts: which entries of the batch are in a block.
    entries_bytes = 5 * 8 * MIB // 4
    assert sum(sent) > 30 * MIB
    assert peak_bytes < writing_bytes(256, (0, 44_000)) + entries_bytes < 25 * MIB


def test_a_share_goes_with_its_task_only_where_it_is_small() -> None:
    batch = full(8, 100_000)
    few = small_share(batch, None, (0, 1000))
    assert few == share_to_bytes(batch, None, (0, 1000))
    more = full(32, 60_000)
    assert len(share_to_bytes(more, None, (0, 60_000))) > SMALL_BYTES
    assert small_share(more, None, (0, 60_000)) is None
    wide = full(80, 120_000)
    assert SMALL_DENSE_BYTES < 4 * 80 * 120_000
    assert small_share(wide, None, (0, 120_000)) is None

"""Which workers the abort mark ends, and who is seen to have left."""

from __future__ import annotations

from collections.abc import Iterator

import boto3
import pytest
from moto import mock_aws

from lamella.abort_mark import end_attempts, is_ended
from lamella.errors import RunAborted
from lamella.layout import MAX_ATTEMPTS, RunKeys
from lamella.leaving import departures, end_attempt, end_run, end_workers
from lamella.storage import Bucket

FIRST, SECOND = RunKeys("run", 1), RunKeys("run", 2)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setattr("lamella.leaving.POLL_S", 0.0)
    with mock_aws():
        client = boto3.client("s3", region_name="us-east-1")
        client.create_bucket(Bucket="bucket")
        yield Bucket(client, "bucket")


def ended(bucket: Bucket) -> list[bool]:
    return [is_ended(bucket, keys) for keys in (FIRST, SECOND)]


def test_the_end_of_an_attempt_is_not_that_of_the_next(bucket: Bucket) -> None:
    assert ended(bucket) == [False, False]
    end_attempts(bucket, FIRST)
    assert ended(bucket) == [True, False]
    end_attempts(bucket, FIRST)
    assert ended(bucket) == [True, False]


@pytest.mark.parametrize(
    "mark", [b"ABORTED", b"FAILED", b"", b"attempts up to 1 and more", b"attempts up to"]
)
def test_any_other_mark_ends_them_all(bucket: Bucket, mark: bytes) -> None:
    bucket.write(FIRST.abort, mark)
    assert ended(bucket) == [True, True]


def test_whichever_comes_first_the_run_s_end_is_the_end(bucket: Bucket) -> None:
    end_attempts(bucket, FIRST)
    end_run(bucket, FIRST, "ABORTED")
    assert ended(bucket) == [True, True]
    with pytest.raises(RunAborted):
        end_attempts(bucket, FIRST)
    assert ended(bucket) == [True, True]


def write_marks(bucket: Bucket) -> None:
    """In either attempt of four workers the first ended, the second is done, the third failed."""
    for keys in (FIRST, SECOND):
        for worker in range(4):
            bucket.write(keys.checkpoint(worker), b"stream")
        bucket.write(keys.ended(0), b"{}")
        bucket.write(keys.part(1), b"")
        bucket.write(keys.error(2), b"error of attempt %d" % keys.attempt)
    bucket.write(SECOND.ended(3), b"{}")


def test_who_left_is_told_by_attempt(bucket: Bucket) -> None:
    write_marks(bucket)
    first, second = departures(bucket, [FIRST, SECOND], wait_s=0)
    assert (first.ended, first.done, first.staying) == ({0}, {1}, {3})
    assert (second.ended, second.done, second.staying) == ({0, 3}, {1}, set())
    assert [failure.message for failure in first.failures] == ["error of attempt 1"]
    assert [failure.message for failure in second.failures] == ["error of attempt 2"]


def test_an_attempt_s_end_waits_for_its_own_workers_alone(bucket: Bucket) -> None:
    write_marks(bucket)
    bucket.delete([SECOND.ended(3)])
    bucket.write(FIRST.ended(3), b"{}")
    assert end_attempt(bucket, FIRST).staying == set()


def test_a_run_s_end_waits_for_the_workers_of_all_attempts(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_marks(bucket)
    monkeypatch.setattr("lamella.leaving.time.sleep", lambda _: bucket.write(FIRST.ended(3), b"{}"))
    failures, staying = end_workers(bucket, FIRST, "ABORTED")
    assert staying == set()
    assert sorted(failure.message for failure in failures) == ["error of attempt 1", "error of attempt 2"]


def test_there_is_a_departure_for_as_many_attempts_as_there_may_be(bucket: Bucket) -> None:
    assert len(end_run(bucket, FIRST, "FAILED")) == MAX_ATTEMPTS

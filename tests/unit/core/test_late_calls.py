"""No call to a service begins after the deadline, and none is tried again after it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from moto import mock_aws

from lamella.deadline import Deadline
from lamella.errors import DeadlineExceeded
from lamella.runtime import LAST_CALL_S, LAST_LOOK_S, Runtime


class Context:
    memory_limit_in_mb = "1024"
    log_stream_name = "2026/11/24/[$LATEST]1"
    aws_request_id = "00000000-0000-0000-0000-000000000000"

    def __init__(self, left_s: float) -> None:
        self._left_s = left_s

    def get_remaining_time_in_millis(self) -> int:
        return int(self._left_s * 1000)


class Body(bytes):
    def stream(self, **_: Any) -> Iterator[bytes]:
        yield b""


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Runtime]:
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("LAMELLA_BUCKET", "bucket")
    with mock_aws():
        runtime = Runtime()
        runtime.begin(Context(60))
        runtime.s3.create_bucket(Bucket="bucket")
        yield runtime


def test_a_call_after_the_deadline_is_refused_and_says_what_to_do(runtime: Runtime) -> None:
    runtime.bound_calls(Deadline.after(-LAST_LOOK_S))
    with pytest.raises(DeadlineExceeded, match=r"before s3\.PutObject was called: raise WorkerTimeout"):
        runtime.bucket.write("k", b"")
    runtime.bound_calls(None)
    runtime.bucket.write("k", b"")


def test_a_wait_may_look_once_more_and_say_what_it_missed(runtime: Runtime) -> None:
    runtime.bound_calls(Deadline.after(0))
    assert not runtime.bucket.exists("k")


def test_the_function_s_own_end_counts_where_it_is_sooner(runtime: Runtime) -> None:
    runtime.begin(Context(LAST_CALL_S))
    runtime.bound_calls(Deadline.after(60))
    with pytest.raises(DeadlineExceeded):
        runtime.bucket.exists("k")


def test_a_service_that_is_down_is_not_asked_beyond_the_deadline(runtime: Runtime) -> None:
    def down(request: Any, **_: Any) -> AWSResponse:
        return AWSResponse(request.url, 503, HTTPHeaders(), Body())

    runtime.s3.meta.events.register("before-send.s3", down)
    runtime.bound_calls(Deadline.after(0.2 - LAST_LOOK_S))
    began_s = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        runtime.bucket.write("k", b"")
    # Six tries would wait for up to 31 s between them.
    assert time.monotonic() - began_s < 5

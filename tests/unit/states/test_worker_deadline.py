"""A worker with too little time left stops cleanly, and says so, wherever it is."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from moto import mock_aws

from lamella import engine
from lamella.checkpoint import Checkpoint, Start
from lamella.errors import CloudError, DeadlineExceeded
from lamella.events import WorkerEvent
from lamella.files import Directory
from lamella.inputs import read_batch
from lamella.layout import RunKeys
from lamella.manifest import MANIFEST, read_manifest
from lamella.plan import Assignment, Plan
from lamella.records import Ending, from_json
from lamella.runtime import LAST_CALL_S, Runtime
from lamella.shares import write_share
from lamella.states.worker import ENDING_S, run_worker
from lamella.storage import Bucket
from lamella.strategies import tasks_of
from lamella.usage import Count, Usage
from model_prep.readers import open_source
from model_prep.writer import write_model
from tests.integration import batches

KEYS = RunKeys("run")
EVENT = WorkerEvent(run="run", attempt=1, worker=0)
KEPT_BACK_S = ENDING_S + LAST_CALL_S


@dataclass(frozen=True)
class Context:
    """What Lambda passes to a handler that has so long to work."""

    left_s: float
    memory_limit_in_mb: str = "1769"
    log_stream_name: str = "stream"
    aws_request_id: str = "00000000-0000-0000-0000-000000000000"

    def get_remaining_time_in_millis(self) -> int:
        return int((self.left_s + KEPT_BACK_S) * 1000)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("deadline") / "model"
    write_model(open_source("radixnet:256x24"), out)
    return out


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch, model: Path) -> Iterator[Runtime]:
    """A serial worker's, whose task is there."""
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    for name, value in {
        "LAMELLA_BUCKET": "bucket",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
    }.items():
        monkeypatch.setenv(name, value)
    with mock_aws():
        runtime = Runtime()
        runtime.begin(Context(60))
        runtime.s3.create_bucket(Bucket="bucket")
        for path in (path for path in model.rglob("*") if path.is_file()):
            runtime.bucket.write(f"models/m/{path.relative_to(model)}", path.read_bytes())
        yield runtime


def planned(runtime: Runtime, model: Path, tmp_path: Path, deadline_s: float) -> None:
    """Leave the worker's task and input, as Plan does."""
    manifest = read_manifest(Directory(model))
    path = batches.write_npz(tmp_path / "blobs.npz", batches.blobs(50, 16))
    batch = read_batch(path.read_bytes(), path.name, manifest.features)
    (task,) = tasks_of(manifest, None, Plan("serial", "none", 1, 1769, batch.samples))
    sha256 = hashlib.sha256((model / MANIFEST).read_bytes()).hexdigest()
    assignment = Assignment("run", 1, 1, "s3://bucket/models/m/", sha256, None, deadline_s, task)
    write_share(runtime.bucket, KEYS.input(0), batch, task.features, task.samples)
    runtime.bucket.write(KEYS.task(0), assignment.to_bytes())


def ended_mark(runtime: Runtime) -> str:
    """The error that the worker's end mark says."""
    return from_json(Ending, runtime.bucket.read(KEYS.ended(0)), KEYS.ended(0)).error


def test_with_time_enough_it_leaves_its_part(runtime: Runtime, model: Path, tmp_path: Path) -> None:
    planned(runtime, model, tmp_path, time.time() + 60)
    run_worker(EVENT, runtime, Context(60))
    assert runtime.bucket.exists(KEYS.part(0))


def test_one_that_has_no_time_at_all_says_so(runtime: Runtime, model: Path, tmp_path: Path) -> None:
    planned(runtime, model, tmp_path, time.time() + 60)
    runtime.begin(Context(0))
    with pytest.raises(DeadlineExceeded, match="time was up"):
        run_worker(EVENT, runtime, Context(0))
    assert ended_mark(runtime).startswith("DeadlineExceeded: ")


def test_the_run_s_deadline_counts_where_it_is_sooner(runtime: Runtime, model: Path, tmp_path: Path) -> None:
    planned(runtime, model, tmp_path, time.time() - 1)
    with pytest.raises(DeadlineExceeded):
        run_worker(EVENT, runtime, Context(60))
    assert ended_mark(runtime).startswith("DeadlineExceeded: ")


def test_in_the_middle_of_reading_weights(
    runtime: Runtime, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned(runtime, model, tmp_path, time.time() + 60)
    answer, read = threading.Event(), Bucket.read

    def stalling(self: Bucket, *arguments: Any) -> bytes:
        if threading.current_thread().name.startswith("weights"):
            answer.wait(30)
        return read(self, *arguments)

    monkeypatch.setattr(Bucket, "read", stalling)
    runtime.begin(Context(2))
    began_s = time.monotonic()
    with pytest.raises(DeadlineExceeded, match="time was up while weights were read"):
        run_worker(EVENT, runtime, Context(2))
    answer.set()
    # Well before its function's end.
    assert time.monotonic() - began_s < 2 + KEPT_BACK_S - 1
    assert ended_mark(runtime).startswith("DeadlineExceeded: time was up while weights were read")


def test_in_the_middle_of_computing(
    runtime: Runtime, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned(runtime, model, tmp_path, time.time() + 60)

    forward = engine.forward

    def late(*arguments: Any, **named: Any) -> Any:
        time.sleep(2.5)
        return forward(*arguments, **named)

    monkeypatch.setattr(engine, "forward", late)
    runtime.begin(Context(2))
    # The kernel itself looks at the time.
    with pytest.raises(DeadlineExceeded, match=r"time was up while .* a layer computed: raise WorkerTimeout"):
        run_worker(EVENT, runtime, Context(2))
    assert ended_mark(runtime).startswith("DeadlineExceeded: time was up while")


def test_between_two_steps(
    runtime: Runtime, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned(runtime, model, tmp_path, time.time() + 60)

    forward = engine.forward

    def late(*arguments: Any, **named: Any) -> Any:
        output = forward(*arguments, **named)
        time.sleep(2.5)
        return output

    monkeypatch.setattr(engine, "forward", late)
    runtime.begin(Context(2))
    with pytest.raises(DeadlineExceeded, match=r"time was up after layer \d+: raise WorkerTimeout"):
        run_worker(EVENT, runtime, Context(2))
    assert ended_mark(runtime).startswith("DeadlineExceeded: time was up after layer")


def test_whoever_ends_tells_also_what_its_earlier_starts_used(
    runtime: Runtime, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned(runtime, model, tmp_path, time.time() + 60)
    earlier = Usage({"sqs.receive_message": Count(calls=7, billed=7)})
    left = Checkpoint(Start(1, "nonce", "stream"), usage=earlier.to_json())
    runtime.bucket.write(KEYS.checkpoint(0), left.to_bytes())

    def failing(*_: Any, **__: Any) -> Any:
        raise CloudError("no more")

    monkeypatch.setattr(engine, "forward", failing)
    with pytest.raises(CloudError, match="no more"):
        run_worker(EVENT, runtime, Context(60))
    told = from_json(Ending, runtime.bucket.read(KEYS.ended(0)), "its mark").report
    assert told.incarnation == 2
    used = Usage.from_json(told.usage).counts
    assert used["sqs.receive_message"] == Count(calls=7, billed=7)
    assert used["s3.get_object"].calls > 0

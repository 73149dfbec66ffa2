"""The state Collect, on an S3 in this process: what it reads, writes, and leaves behind where it can't."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from moto import mock_aws
from numpy.typing import NDArray
from safetensors.numpy import load, save

from lamella import part_stream, parts, predictions, uploads
from lamella.activations import Activations
from lamella.errors import RunAborted, RunError
from lamella.events import CollectEvent
from lamella.inputs.ids import ids_to_bytes
from lamella.layout import RunKeys
from lamella.manifest import read_manifest
from lamella.parts import part_to_bytes
from lamella.plan import Plan
from lamella.records import Collected, PlanRecord, Share, from_json, to_json
from lamella.runtime import Runtime
from lamella.states.collect import collect_run
from lamella.usage import Count, Usage
from model_prep.readers import open_source
from model_prep.writer import write_model
from tests.parts import REPORT

BUCKET = "models-and-runs"
OUTPUTS, SAMPLES = 256, 40
EVENT = CollectEvent(run="run", attempt=1)
KEYS = RunKeys("run")


@dataclass(frozen=True)
class Context:
    """What Lambda passes to a handler."""

    memory_limit_in_mb: str = "1769"
    log_stream_name: str = "stream"
    aws_request_id: str = "00000000-0000-0000-0000-000000000000"

    def get_remaining_time_in_millis(self) -> int:
        return 60_000


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("collect") / "model"
    write_model(open_source("alive:256x2"), out)
    return out


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch, model: Path) -> Iterator[Runtime]:
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "LAMELLA_BUCKET": BUCKET,
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        made = Runtime()
        made.s3.create_bucket(Bucket=BUCKET)
        for path in model.rglob("*"):
            if path.is_file():
                made.bucket.write(f"models/m/{path.relative_to(model)}", path.read_bytes())
        yield made


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of a few samples, none of them read with its part's head."""
    monkeypatch.setattr(parts, "BLOCK_BYTES", 4 * OUTPUTS * 3)
    monkeypatch.setattr(predictions, "BLOCK_BYTES", 4 * OUTPUTS * 3)
    monkeypatch.setattr(part_stream, "FIRST_BYTES", 0)
    monkeypatch.setattr(part_stream, "LEAST_READ_BYTES", 64)


def dense(samples: int = SAMPLES) -> NDArray[np.float32]:
    """Samples x outputs, as stored; every fourth sample is dead."""
    values = np.random.default_rng(5).standard_normal((samples, OUTPUTS)).astype(np.float32)
    values[::4] = 0
    return values


def leave(runtime: Runtime, numbers: NDArray[np.uint32] | None = None) -> None:
    """What Plan and four workers leave: rows x samples, the second half of the samples by another two."""
    half = SAMPLES // 2
    shares = tuple(
        Share(rows, samples)
        for samples in ((0, half), (half, SAMPLES))
        for rows in ((0, 100), (100, OUTPUTS))
    )
    plan = Plan("rows", "sns", len(shares), 1024, SAMPLES)
    record = PlanRecord(
        run="run",
        attempt=1,
        request={"activations": True},
        plan=plan,
        model=f"s3://{BUCKET}/models/m/",
        first_sample=1,
        started_s=0.0,
        deadline_s=0.0,
        shares=shares,
        usage={},
        dealt=numbers is not None,
    )
    bucket = runtime.bucket
    bucket.write(KEYS.plan, to_json(record))
    values = dense() if numbers is None else dense()[numbers]
    if numbers is not None:
        bucket.write(KEYS.dealt, save({"numbers": numbers}))
    for worker, share in enumerate(shares):
        mine = np.ascontiguousarray(values[slice(*share.samples), slice(*share.rows)].T)
        part = Activations(np.arange(*share.samples), mine).without_dead()
        bucket.write(
            KEYS.part(worker), part_to_bytes(part, share, len(shares), replace(REPORT, worker=worker))
        )


def collect(runtime: Runtime) -> Usage:
    runtime.begin(Context())
    collect_run(EVENT, runtime)
    return runtime.meter.usage()


def in_source_order(runtime: Runtime, values: NDArray[np.float32]) -> NDArray[np.float32]:
    model = runtime.bucket.below("models/m/")
    order = predictions.source_rows(model, read_manifest(model).layers[-1])
    found = np.empty_like(values)
    found[:, order] = values
    return found


def check(runtime: Runtime) -> None:
    expected = in_source_order(runtime, dense())
    assert load(runtime.bucket.read(KEYS.activations))["activations"].tobytes() == expected.tobytes()
    lines = runtime.bucket.read(KEYS.predictions).decode().splitlines()
    assert len(lines) == 1 + SAMPLES
    alive = expected.any(axis=1)
    for number, line in enumerate(lines[1:]):
        first, argmax, score, nonzero = line.split(",")
        assert int(first) == number + 1
        assert int(nonzero) == np.count_nonzero(expected[number])
        if alive[number]:
            assert (int(argmax), np.float32(score)) == (expected[number].argmax(), expected[number].max())
    found = from_json(Collected, runtime.bucket.read(KEYS.collected), KEYS.collected)
    assert found.categories == alive.sum()
    assert [report.worker for report in found.workers] == [0, 1, 2, 3]


def dealt() -> NDArray[np.uint32]:
    """Odd samples to the first group, even ones to the second."""
    return np.concatenate([np.arange(1, SAMPLES, 2), np.arange(0, SAMPLES, 2)]).astype(np.uint32)


@pytest.mark.parametrize("numbers", [None, dealt()])
def test_predictions_and_activations_are_of_the_inputs_samples(
    runtime: Runtime, numbers: NDArray[np.uint32] | None
) -> None:
    leave(runtime, numbers)
    collect(runtime)
    check(runtime)


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("numbers", [None, dealt()])
def test_so_they_are_in_many_small_blocks_and_a_second_time(
    runtime: Runtime, numbers: NDArray[np.uint32] | None
) -> None:
    leave(runtime, numbers)
    for _ in range(2):
        collect(runtime)
        check(runtime)


@pytest.mark.usefixtures("tiny")
def test_predictions_begin_with_the_ids_that_the_input_has(runtime: Runtime) -> None:
    leave(runtime, dealt())
    record = from_json(PlanRecord, runtime.bucket.read(KEYS.plan), "plan")
    runtime.bucket.write(KEYS.plan, to_json(replace(record, ids=True)))
    runtime.bucket.write(KEYS.ids, ids_to_bytes(f"the {n}, th" for n in range(SAMPLES)))
    collect(runtime)

    table = list(csv.reader(io.StringIO(runtime.bucket.read(KEYS.predictions).decode())))
    assert table[0] == ["id", "sample", "argmax", "score", "nonzero"]
    assert [row[:2] for row in table[1:]] == [[f"the {n}, th", str(n + 1)] for n in range(SAMPLES)]


def test_a_small_run_takes_one_request_for_each_object(runtime: Runtime) -> None:
    leave(runtime)
    usage = collect(runtime)

    # Plan, manifest, order of rows, and four parts; predictions, activations, and what Finish reads.
    # And whether the run still goes on.
    assert usage.count("s3.get_object").calls == 3 + 4 + 1
    assert usage.count("s3.put_object").calls == 3
    assert set(usage.counts) == {"s3.get_object", "s3.put_object"}


def test_of_a_run_that_ended_meanwhile_nothing_is_left_that_its_end_did_not_see(runtime: Runtime) -> None:
    leave(runtime)
    runtime.bucket.write(KEYS.abort, b"ABORTED")
    with pytest.raises(RunAborted, match="run run was ended"):
        collect(runtime)
    assert not runtime.bucket.exists(KEYS.collected)


def test_what_it_used_counts_every_request_of_a_large_one(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "PART_BYTES", 5000)
    monkeypatch.setattr("moto.s3.models.S3_UPLOAD_PART_MIN_SIZE", 1)
    leave(runtime)
    usage = collect(runtime)
    check(runtime)

    found = from_json(Collected, runtime.bucket.read(KEYS.collected), KEYS.collected)
    counted = Usage.from_json(found.usage)
    assert {name: counted.counts[name] for name in usage.counts} == usage.counts
    size = 4 * SAMPLES * OUTPUTS
    assert usage.count("s3.upload_part").calls == -(-size // 5000)
    assert usage.count("s3.create_multipart_upload") == Count(1, 1, 0)
    assert usage.count("s3.complete_multipart_upload") == Count(1, 1, 0)


def left(runtime: Runtime) -> tuple[set[str], int]:
    """What the user would find of the run, and uploads that nobody finishes."""
    mine = {KEYS.predictions, KEYS.activations, KEYS.collected}
    open_ones = runtime.s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])
    return mine & set(runtime.bucket.sizes()), len(open_ones)


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("damage", ["missing", "other shape", "last block"])
def test_where_a_part_is_not_as_planned_nothing_is_left(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    monkeypatch.setattr(uploads, "PART_BYTES", 5000)
    leave(runtime)
    bucket, path = runtime.bucket, KEYS.part(3)
    if damage == "missing":
        bucket.delete([path])
    elif damage == "other shape":
        bucket.write(path, bucket.read(KEYS.part(1)))
    else:
        data = bytearray(bucket.read(path))
        data[-1] ^= 1
        bucket.write(path, bytes(data))
    with pytest.raises(RunError) as caught:
        collect(runtime)

    told = str(caught.value)
    assert len(told.splitlines()) == 1
    assert f"{BUCKET}/{path}" in told
    assert left(runtime) == (set(), 0)


def test_a_dealing_that_is_gone_is_told(runtime: Runtime) -> None:
    leave(runtime, dealt())
    runtime.bucket.delete([KEYS.dealt])

    with pytest.raises(RunError, match="the dealing of the run's samples is gone"):
        collect(runtime)

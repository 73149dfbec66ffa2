"""Models and inputs may lie in the user's own buckets, which are only read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lamella.client import Stack
from lamella.storage import Bucket
from model_prep.readers import open_source
from model_prep.reference import plain_scipy
from tests.integration import batches
from tests.integration.runs import activations, begin, outcome
from tests.integration.stacks import remove_bucket, stack_of
from workflows.embedded_cloud import EmbeddedCloud

THEIRS = "their-data"
MODEL, INPUT = f"s3://{THEIRS}/nets/small/", f"s3://{THEIRS}/today/blobs.npz"


@pytest.fixture(scope="module")
def theirs(
    cloud: EmbeddedCloud, small_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bucket]:
    """A bucket of somebody's, with a model and an input in places that they chose."""
    s3 = cloud.client("s3")
    s3.create_bucket(Bucket=THEIRS)
    bucket = Bucket(s3, THEIRS)
    for path in small_model.rglob("*"):
        if path.is_file():
            bucket.write(f"nets/small/{path.relative_to(small_model).as_posix()}", path.read_bytes())
    blobs = batches.write_npz(tmp_path_factory.mktemp("batch") / "blobs.npz", batches.blobs(400, 16))
    bucket.write("today/blobs.npz", blobs.read_bytes())
    yield bucket
    remove_bucket(cloud, THEIRS)


@pytest.fixture(scope="module")
def reader(cloud: EmbeddedCloud, theirs: Bucket) -> Iterator[Stack]:
    with stack_of(cloud, "reader", DataBuckets=f"another-bucket,{THEIRS}") as stack:
        yield stack


@pytest.mark.parametrize("strategy", ["rows", "samples", "serial"])
def test_a_run_reads_its_model_and_input_there_and_writes_only_its_own_bucket(
    reader: Stack, theirs: Bucket, strategy: str, tmp_path: Path
) -> None:
    before = theirs.sizes()
    run = begin(
        reader, MODEL, INPUT, strategy=strategy, workers=None if strategy == "serial" else 4, activations=True
    )
    expected = plain_scipy(open_source("radixnet:256x24"), batches.blobs(400, 16))

    assert activations(run, tmp_path).tobytes() == expected.tobytes()
    assert theirs.sizes() == before
    assert not reader.files("models/").sizes()
    assert not reader.files("inputs/").sizes()


def test_what_is_missing_there_is_told_as_missing(reader: Stack) -> None:
    ended = outcome(begin(reader, f"s3://{THEIRS}/nets/large/", INPUT))

    assert ended["error"] == "ModelError"
    assert f"s3://{THEIRS}/nets/large/ is not a prepared model" in ended["cause"]


def test_a_bucket_that_was_not_named_is_refused_with_both_ways_out(stack: Stack, theirs: Bucket) -> None:
    ended = outcome(begin(stack, MODEL, INPUT))

    assert ended["error"] == "InputError"
    assert f"copy it below s3://{stack.bucket}/models/" in ended["cause"]
    assert f"or add {THEIRS} to the stack's parameter DataBuckets" in ended["cause"]

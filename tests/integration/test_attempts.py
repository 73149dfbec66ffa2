"""Runs whose workers are launched once more: exact over every channel, and nothing is left behind."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from lamella import client
from lamella.client import Stack
from lamella.layout import RunKeys
from model_prep.readers import open_source
from model_prep.reference import plain_scipy
from model_prep.writer import write_model
from tests.integration import batches
from tests.integration.runs import (
    activations,
    assert_nothing_is_left,
    begin,
    outcome,
    process_of,
    states_entered,
    summary,
    until,
    wait_for_workers,
)
from workflows.embedded_cloud import EmbeddedCloud

WORKERS = 4
SOURCE = "radixnet:256x240"
# So that a killed worker can't go on by itself.
NOT_RESUMED = {"checkpoints": False}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("long") / "model"
    write_model(open_source(SOURCE), out, workers=[2, WORKERS])
    return out


@pytest.fixture(scope="module")
def images() -> NDArray[np.float32]:
    return batches.blobs(400, 16)


@pytest.fixture(scope="module")
def batch(images: NDArray[np.float32], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return batches.write_npz(tmp_path_factory.mktemp("batch") / "blobs.npz", images)


@pytest.mark.parametrize("channel", ["sns", "sqs", "s3"])
def test_a_killed_worker_costs_one_more_attempt_and_no_bit(
    cloud: EmbeddedCloud,
    stack: Stack,
    model: Path,
    batch: Path,
    images: NDArray[np.float32],
    tmp_path: Path,
    channel: str,
) -> None:
    # Hybrid: the samples are dealt, which Collect has to know of both attempts.
    cut = {"strategy": "hybrid" if channel == "sqs" else "rows", "workers": WORKERS, "channel": channel}
    run = begin(stack, model, batch, activations=True, micro_batches=2, **cut, **NOT_RESUMED)
    wait_for_workers(run, WORKERS)
    process_of(cloud, run, 2).kill()

    found = activations(run, tmp_path)

    assert found.tobytes() == plain_scipy(open_source(SOURCE), images).tobytes()
    assert [name for name in states_entered(run) if "Worker" not in name and "Record" not in name] == [
        *("Plan", "Launch", "Recover", "Again", "Launch", "Collect", "Finish")
    ]
    said = summary(run)
    (failed,) = said["failed_attempts"]
    assert (said["attempts"], failed["error"]) == (2, "WorkerError")
    assert failed["cause"].startswith("worker 2 failed: Runtime.ExitError: ")
    assert 0 < failed["seconds"] < said["seconds"]["total"]
    # Plan and Recover, both attempts' workers, Collect and Finish; of one killed, its refusal to begin again.
    assert said["usage"]["lambda.invoke"]["calls"] == 2 + WORKERS + WORKERS + 2
    assert_nothing_is_left(cloud, run)


def test_a_run_that_is_stopped_in_its_second_attempt_ends_its_workers_and_leaves_nothing(
    cloud: EmbeddedCloud, stack: Stack, model: Path, batch: Path
) -> None:
    run = begin(stack, model, batch, strategy="rows", workers=WORKERS, channel="sqs", **NOT_RESUMED)
    wait_for_workers(run, WORKERS)
    process_of(cloud, run, 0).kill()
    wait_for_workers(run, WORKERS, attempt=2)

    client.stop(run)

    stopped_s = time.monotonic()
    assert outcome(run)["status"] == "ABORTED"
    until(lambda: stack.files().exists(RunKeys(run.run_id).summary), seconds=25)
    assert time.monotonic() - stopped_s < 15
    said = summary(run)
    assert (said["status"], said["attempts"], len(said["failed_attempts"])) == ("ABORTED", 2, 1)
    assert_nothing_is_left(cloud, run)


def test_a_worker_of_the_first_attempt_that_wakes_up_late_changes_nothing(
    cloud: EmbeddedCloud,
    stack: Stack,
    model: Path,
    batch: Path,
    images: NDArray[np.float32],
    tmp_path: Path,
) -> None:
    run = begin(
        stack, model, batch, strategy="rows", workers=WORKERS, channel="sns", activations=True, **NOT_RESUMED
    )
    wait_for_workers(run, WORKERS)
    frozen = process_of(cloud, run, 1)
    frozen.suspend()
    process_of(cloud, run, 2).kill()
    wait_for_workers(run, WORKERS, attempt=2, seconds=60)
    frozen.resume()

    found = activations(run, tmp_path)

    assert found.tobytes() == plain_scipy(open_source(SOURCE), images).tobytes()
    record = json.loads(stack.files().read(RunKeys(run.run_id).plan))
    assert (record["attempt"], summary(run)["attempts"]) == (2, 2)
    assert_nothing_is_left(cloud, run)

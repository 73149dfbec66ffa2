"""Whatever happens to a worker: the run fails soon and says why, and leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from lamella import client
from lamella.client import Stack
from lamella.events import RunRequest
from model_prep.readers import open_source
from model_prep.reference import plain_scipy
from model_prep.writer import write_model
from tests.integration import batches
from tests.integration.damage import damaged
from tests.integration.runs import (
    activations,
    assert_nothing_is_left,
    begin,
    held_slots,
    history,
    outcome,
    process_of,
    states_entered,
    summary,
    until,
    wait_for_workers,
)
from tests.integration.stacks import stack_of
from workflows.embedded_cloud import EmbeddedCloud

WORKERS = 4
# So that a killed worker can't go on by itself.
NOT_RESUMED = {"checkpoints": False}


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return batches.write_npz(tmp_path_factory.mktemp("batch") / "blobs.npz", batches.blobs(400, 16))


@pytest.fixture(scope="module")
def plain() -> NDArray[np.float32]:
    return plain_scipy(open_source("radixnet:256x240"), batches.blobs(400, 16))


def test_workers_killed_in_both_attempts_fail_the_run_by_their_own_errors_and_the_next_run_is_exact(
    cloud: EmbeddedCloud,
    stack: Stack,
    long_model: Path,
    batch: Path,
    plain: NDArray[np.float32],
    tmp_path: Path,
) -> None:
    run = begin(stack, long_model, batch, workers=WORKERS, strategy="rows", **NOT_RESUMED)
    for attempt, worker in ((1, 2), (2, 1)):
        wait_for_workers(run, WORKERS, attempt=attempt)
        process_of(cloud, run, worker, attempt).kill()
    killed_s = time.monotonic()
    ended = outcome(run)
    assert ended["status"] == "FAILED"
    # One retry about a second later, then at most 15 s.
    assert time.monotonic() - killed_s < 18
    assert ended["error"] == "WorkerError"
    assert ended["cause"].startswith("worker 1 failed: Runtime.ExitError: ")
    assert "(attempt 2; attempt 1: worker 2 failed: Runtime.ExitError: " in ended["cause"]
    assert ended["cause"].count("signal: killed") == 2
    assert summary(run)["attempts"] == 2
    after = begin(stack, long_model, batch, workers=WORKERS, strategy="rows", activations=True)
    assert activations(after, tmp_path).tobytes() == plain.tobytes()
    assert_nothing_is_left(cloud, run)


def test_a_worker_that_raises_is_named_with_its_own_error(
    cloud: EmbeddedCloud, stack: Stack, batch: Path, tmp_path: Path
) -> None:
    # A model of its own: what a warm worker has verified of another run it would not read again.
    write_model(open_source("alive:256x24"), tmp_path / "model", workers=[WORKERS])
    run = begin(stack, damaged(stack, tmp_path / "model", 20), batch, workers=WORKERS, strategy="rows")
    ended = outcome(run)
    assert (ended["status"], ended["error"]) == ("FAILED", "WorkerError")
    assert "failed: ModelError: layer 20, rows " in ended["cause"]
    assert "sha256 differs" in ended["cause"]
    # It would be damaged again.
    assert states_entered(run).count("Workers") == summary(run)["attempts"] == 1
    assert_nothing_is_left(cloud, run)


def test_a_stopped_execution_ends_its_workers_and_frees_its_slots(
    cloud: EmbeddedCloud, stack: Stack, long_model: Path, batch: Path
) -> None:
    run = begin(stack, long_model, batch, workers=WORKERS, strategy="rows")
    wait_for_workers(run, WORKERS)
    client.stop(run)
    assert outcome(run)["status"] == "ABORTED"
    until(lambda: stack.files().exists(f"runs/{run.run_id}/summary.json"), seconds=25)
    assert_nothing_is_left(cloud, run)


def test_a_run_that_is_stopped_while_it_is_planned_leases_nothing(
    stack: Stack, long_model: Path, batch: Path
) -> None:
    run = client.new_run(stack)
    stack.files().write(f"runs/{run.run_id}/abort", b"ABORTED")
    model, source = client.upload_model(stack, long_model), client.upload_input(stack, batch)
    client.start(run, RunRequest(model=model, input=source, strategy="rows", channel="sns", workers=WORKERS))
    ended = outcome(run)
    assert (ended["status"], ended["error"]) == ("FAILED", "RunAborted")
    assert "was stopped while it was being planned" in ended["cause"]
    assert not [hold for hold in held_slots(stack).values() if hold["run"] == run.run_id]


@pytest.fixture(scope="module")
def impatient(cloud: EmbeddedCloud) -> Iterator[tuple[EmbeddedCloud, Stack]]:
    """A stack whose workers have fifteen seconds."""
    with stack_of(cloud, "impatient", WorkerTimeout="15") as stack:
        yield cloud, stack


def test_a_worker_that_hangs_is_named_though_it_can_say_nothing_and_the_others_go_on_without_it(
    impatient: tuple[EmbeddedCloud, Stack], batch: Path, tmp_path: Path
) -> None:
    cloud, stack = impatient
    # Layers few enough for fifteen seconds on a machine that is busy.
    source = open_source("radixnet:256x120")
    write_model(source, tmp_path / "model", workers=[WORKERS])
    plain = plain_scipy(source, batches.blobs(400, 16))
    run = begin(
        stack,
        tmp_path / "model",
        batch,
        workers=WORKERS,
        strategy="rows",
        activations=True,
        **NOT_RESUMED,
    )
    wait_for_workers(run, WORKERS)
    os.kill(process_of(cloud, run, 1).pid, signal.SIGSTOP)
    assert activations(run, tmp_path).tobytes() == plain.tobytes()
    (failed,) = summary(run)["failed_attempts"]
    assert failed["error"] == "WorkerError"
    assert failed["cause"].startswith("worker 1 failed: NoAnswer: worker ")
    assert re.search(r"waited in vain for worker (\d, )*1\b", failed["cause"])
    # It may still run for as long as its function may: nobody else gets its slots before.
    held = [hold for hold in held_slots(stack).values() if hold["run"] == run.run_id]
    assert len(held) == WORKERS
    assert all(hold["until_s"] < time.time() + 16 for hold in held)


def test_a_worker_that_talks_to_nobody_is_started_again_after_its_time_is_out(
    impatient: tuple[EmbeddedCloud, Stack], official_model: Path, tmp_path: Path
) -> None:
    cloud, stack = impatient
    # Work for half a second and more: enough to be frozen in the middle of it.
    images = batches.blobs(6000, 32)
    source = batches.write_npz(tmp_path / "images.npz", images)
    run = begin(stack, official_model, source, strategy="serial", activations=True)
    wait_for_workers(run, 1)
    os.kill(process_of(cloud, run, 0).pid, signal.SIGSTOP)
    expected = plain_scipy(open_source("radixnet:1024x120"), images)
    assert activations(run, tmp_path).tobytes() == expected.tobytes()
    failed = [event.get("taskFailedEventDetails", {}) for event in history(run)]
    assert [details["error"] for details in failed if details] == ["Sandbox.Timedout"]

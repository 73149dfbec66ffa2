"""Runs that can't all have what they need wait for each other, and a race for it loses nothing."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lamella import client
from lamella.client import RunHandle, Stack
from lamella.events import RunRequest
from lamella.lease_table import Amount
from lamella.leases import Leases, NotYet, Terms
from model_prep.readers import open_source
from model_prep.reference import plain_scipy
from tests.integration import batches
from tests.integration.runs import activations, begin, outcome, states_entered, until
from tests.integration.stacks import stack_of
from workflows.embedded_cloud import EmbeddedCloud

ROOM = Amount(units=4, slots=8)
ACCOUNT = 1000
RACERS = 50


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return batches.write_npz(tmp_path_factory.mktemp("batch") / "blobs.npz", batches.blobs(400, 16))


@pytest.fixture(scope="module")
def plain() -> NDArray[np.float32]:
    return plain_scipy(open_source("radixnet:256x24"), batches.blobs(400, 16))


@pytest.fixture(scope="module")
def narrow(cloud: EmbeddedCloud) -> Iterator[Stack]:
    """A stack whose workers may have four of the account's executions."""
    with stack_of(cloud, "narrow", KeepFree=str(ACCOUNT - ROOM.units), LeaseWait="120") as found:
        yield found


@pytest.fixture
def leases(cloud: EmbeddedCloud, narrow: Stack) -> Iterator[Leases]:
    """The stack's, all of which another run holds."""
    found = Leases(cloud.client("s3"), narrow.bucket, time.time, time.sleep)
    found.take("another", ROOM, Terms(ROOM, time.time() + 300))
    yield found
    found.release("another")


def test_runs_wait_until_they_have_their_turn_and_are_exact(
    narrow: Stack,
    leases: Leases,
    small_model: Path,
    batch: Path,
    plain: NDArray[np.float32],
    tmp_path: Path,
) -> None:
    gangs = [begin(narrow, small_model, batch, workers=4, activations=True) for _ in range(2)]
    alone = begin(narrow, small_model, batch, strategy="serial", activations=True)
    waiting = {"another", *(run.run_id for run in (*gangs, alone))}
    until(lambda: leases.runs() == waiting, 60)
    leases.release("another")

    for run in (*gangs, alone):
        assert activations(run, tmp_path / run.run_id).tobytes() == plain.tobytes()
        entered = [name for name in states_entered(run) if name != "Worker"]
        looks = entered.count("WaitForTurn")
        assert looks > 0
        assert entered == [
            *["Plan", "Launch", "WaitForTurn"] * looks,
            *["Plan", "Launch", "Workers", "Collect", "Finish"],
        ]
        summary = summary_of(run)
        assert 0 < summary["seconds"]["waited"] < summary["seconds"]["total"]
        transitions = summary["usage"]["stepfunctions.transition"]["billed"]
        assert transitions == len(states_entered(run))
    assert leases.runs() == set()


def test_a_run_that_is_stopped_while_it_waits_leaves_the_line(
    narrow: Stack, leases: Leases, small_model: Path, batch: Path
) -> None:
    run = begin(narrow, small_model, batch, workers=4)
    until(lambda: run.run_id in leases.runs(), 60)
    client.stop(run)
    until(lambda: leases.runs() == {"another"}, 60)


def test_a_run_that_has_waited_as_long_as_it_may_fails_and_says_for_what(
    cloud: EmbeddedCloud, narrow: Stack, leases: Leases, small_model: Path, batch: Path
) -> None:
    run = client.new_run(narrow)
    an_hour_ago = Leases(cloud.client("s3"), narrow.bucket, lambda: time.time() - 3600, time.sleep)
    with pytest.raises(NotYet):
        an_hour_ago.take(run.run_id, Amount(4, 4), Terms(ROOM, time.time(), wait_s=7200))
    model, source = client.upload_model(narrow, small_model), client.upload_input(narrow, batch)
    client.start(run, RunRequest(model=model, input=source, strategy="rows", channel="sns", workers=4))

    ended = outcome(run)

    assert (ended["status"], ended["error"]) == ("FAILED", "LeaseError")
    assert ended["cause"].startswith("4 units of concurrency and 4 slots could not be had within 360")
    assert "0 of 4 units of concurrency and 0 of 8 slots are free" in ended["cause"]
    assert leases.runs() == {"another"}


def summary_of(run: RunHandle) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run.stack.files().read(f"runs/{run.run_id}/summary.json"))
    return found


def test_a_race_of_fifty_runs_loses_nothing(cloud: EmbeddedCloud) -> None:
    """Each asks until it has its turn, and leaves again: no slot is held twice, and all are served."""
    s3 = cloud.client("s3")
    s3.create_bucket(Bucket="race")
    room = Amount(units=12, slots=8)
    lock, started = threading.Lock(), threading.Barrier(RACERS)
    inside: dict[int, str] = {}
    units: dict[str, int] = {}
    most: list[int] = []
    clashes: list[tuple[str, str]] = []

    def run(number: int) -> float:
        mine, name = Leases(s3, "race", time.time, time.sleep), f"run-{number}"
        want = Amount(1 + number % 4, (1 + number % 4) * (number % 2))
        started.wait()
        while True:
            try:
                granted = mine.take(name, want, Terms(room, time.time() + 600, wait_s=600))
                break
            except NotYet:
                time.sleep(0.5)
        with lock:
            clashes.extend((name, inside[slot]) for slot in granted.slots if slot in inside)
            inside.update(dict.fromkeys(granted.slots, name))
            units[name] = want.units
            most.append(sum(units.values()))
        time.sleep(0.05)
        with lock:
            for slot in granted.slots:
                del inside[slot]
            del units[name]
        mine.release(name)
        return granted.waited_s

    with ThreadPoolExecutor(RACERS) as pool:
        waited_s = list(pool.map(run, range(RACERS)))

    assert len(waited_s) == RACERS
    assert clashes == []
    assert max(most) <= room.units
    assert Leases(s3, "race", time.time, time.sleep).runs() == set()

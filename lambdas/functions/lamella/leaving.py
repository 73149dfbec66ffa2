"""Have the workers of a run, or of one attempt at it, leave, and see which of them do."""

from __future__ import annotations

import time
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from lamella.abort_mark import end_attempts
from lamella.errors import RunError
from lamella.failures import WorkerFailure, parse_failure
from lamella.layout import MAX_ATTEMPTS, RunKeys
from lamella.records import Ending, from_json
from lamella.storage import Bucket

LEAVE_S = 10.0  # workers look for the abort mark every 5 s, and at the latest a second after
POLL_S = 0.5
READERS = 16


@dataclass(frozen=True)
class Departure:
    """What came of an attempt's workers.

    Attributes
    ----------
    failures
        What their Catches wrote.
    staying
        Those that had begun and were not seen to leave.
    ended, done
        Those that left a mark when they failed, and those that left their part of the output.
    """

    failures: list[WorkerFailure]
    staying: set[int]
    ended: set[int]
    done: set[int]


def end_workers(bucket: Bucket, keys: RunKeys, why: str) -> tuple[list[WorkerFailure], set[int]]:
    """Tell all workers of a run to leave, and wait for them, at most `LEAVE_S`.

    Parameters
    ----------
    why
        The status of the execution; what the mark says.

    Returns
    -------
    list
        What the workers' Catches wrote.
    set
        The workers that had begun and were not seen to leave.
    """
    attempts = end_run(bucket, keys, why)
    failures = [failure for departure in attempts for failure in departure.failures]
    return failures, set().union(*(departure.staying for departure in attempts))


def end_run(bucket: Bucket, keys: RunKeys, why: str) -> list[Departure]:
    """The same, by attempt: of as many as there may be."""
    bucket.write(keys.abort, why.encode(), "text/plain")
    return departures(bucket, RunKeys(keys.run, MAX_ATTEMPTS).attempts)


def end_attempt(bucket: Bucket, keys: RunKeys) -> Departure:
    """Tell the workers of an attempt to leave, and those of none after it, and wait as `end_workers`.

    Raises
    ------
    RunAborted
        If the run was ended.
    """
    end_attempts(bucket, keys)
    return departures(bucket, [keys])[0]


def departures(bucket: Bucket, attempts: list[RunKeys], wait_s: float = LEAVE_S) -> list[Departure]:
    """Wait for the workers of some attempts at a run to leave."""
    until_s = time.monotonic() + wait_s
    while True:
        there = bucket.sizes(attempts[0].root)
        found = [_departure(bucket, keys, there) for keys in attempts]
        if not any(departure.staying for departure in found) or time.monotonic() >= until_s:
            return found
        time.sleep(POLL_S)


def endings_of(bucket: Bucket, keys: RunKeys, workers: int) -> list[Ending]:
    """What the workers that failed left as their end marks, as far as it can be read."""

    def read(worker: int) -> Ending | None:
        try:
            return from_json(Ending, bucket.read(keys.ended(worker)), keys.ended(worker))
        except (FileNotFoundError, RunError):
            return None

    with ThreadPoolExecutor(READERS) as pool:
        return [ending for ending in pool.map(read, range(workers)) if ending]


def failures_of(bucket: Bucket, keys: RunKeys) -> list[WorkerFailure]:
    """What the Catches of an attempt's workers have written by now."""
    return _failures(bucket, keys, bucket.sizes(keys.errors))


def _departure(bucket: Bucket, keys: RunKeys, there: Collection[str]) -> Departure:
    begun = _numbers(there, keys.checkpoint(0)[:-1])
    ended, done = _numbers(there, keys.ended(0)[:-1]), _numbers(there, keys.part(0)[:-1])
    failures = _failures(bucket, keys, there)
    failed = {failure.worker for failure in failures}
    return Departure(failures, begun - ended - done - failed, ended, done)


def _failures(bucket: Bucket, keys: RunKeys, there: Collection[str]) -> list[WorkerFailure]:
    workers = sorted(_numbers(there, keys.errors))
    return [parse_failure(worker, bucket.read(keys.error(worker))) for worker in workers]


def _numbers(there: Collection[str], prefix: str) -> set[int]:
    return {int(path[len(prefix) :].removesuffix(".json")) for path in there if path.startswith(prefix)}

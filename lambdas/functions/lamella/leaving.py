"""Have the workers of a run that is over leave, and see which of them do."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from lamella.errors import RunError
from lamella.failures import WorkerFailure, parse_failure
from lamella.layout import RunKeys
from lamella.records import Ending, from_json
from lamella.storage import Bucket

LEAVE_S = 10.0  # workers look for the abort mark every 5 s, and at the latest a second after
POLL_S = 0.5
READERS = 16


def end_workers(bucket: Bucket, keys: RunKeys, why: str) -> tuple[list[WorkerFailure], set[int]]:
    """Leave the abort mark, and wait for the workers, at most `LEAVE_S`.

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
    bucket.write(keys.abort, why.encode(), "text/plain")
    until_s = time.monotonic() + LEAVE_S
    while True:
        there = bucket.sizes(keys.root)
        failures = {_number(path): path for path in there if path.startswith(keys.errors)}
        begun = {_number(path) for path in there if path.startswith(keys.started(0)[:-1])}
        left = {_number(path) for path in there if path.startswith((keys.ended(0)[:-1], keys.part(0)[:-1]))}
        staying = begun - left - set(failures)
        if not staying or time.monotonic() >= until_s:
            return [parse_failure(worker, bucket.read(path)) for worker, path in failures.items()], staying
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


def _number(path: str) -> int:
    return int(path.rpartition("/")[2].removesuffix(".json"))

"""What the workers of an attempt that failed used: as far as they left, and so could say."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from lamella.errors import LamellaError
from lamella.layout import RunKeys
from lamella.leaving import Departure
from lamella.parts import head_bytes, parse_head
from lamella.records import Ending, PlanRecord, WorkerReport, from_json, to_json
from lamella.sealing import with_own_write
from lamella.storage import Bucket
from lamella.tensors import LENGTH_BYTES
from lamella.usage import Usage, merge

_READERS = 16


def end_mark(error: Exception, report: WorkerReport, lines: tuple[str, ...], usage: Usage) -> bytes:
    """What a worker leaves that ends by an error.

    Parameters
    ----------
    report
        How far it came, but for its usage.
    lines
        The last of its log.
    """
    text = f"{type(error).__name__}: {error}"

    def body(counted: Usage) -> bytes:
        return to_json(Ending(text, replace(report, usage=counted.to_json()), lines))

    return with_own_write(usage, body)


def spent(bucket: Bucket, keys: RunKeys, record: PlanRecord, departure: Departure) -> Usage:
    """The usage of an attempt's workers; of those that were killed, or have not left, nothing is known."""

    def of_mark(worker: int) -> Usage:
        path = keys.ended(worker)
        return Usage.from_json(from_json(Ending, bucket.read(path), path).report.usage)

    def of_part(worker: int) -> Usage:
        path = keys.part(worker)
        size = head_bytes(bucket.read(path, 0, LENGTH_BYTES), path)
        head = parse_head(bucket.read(path, 0, size), record.shares[worker], record.plan.workers, path)
        return Usage.from_json(head.report.usage)

    def of_worker(worker: int) -> Usage:
        try:
            return of_part(worker) if worker in departure.done else of_mark(worker)
        except (LamellaError, OSError, ValueError, KeyError, TypeError, IndexError):
            # It is no reason to fail a run, or to fail it by another error.
            return Usage()

    with ThreadPoolExecutor(_READERS) as pool:
        return merge(pool.map(of_worker, sorted(departure.done | departure.ended)))

"""What the workers of a run talk through: had by Plan, given back by Finish, by channel.

========  =========================================  ==================================================
channel   had                                        given back
========  =========================================  ==================================================
``sns``   slots leased, each a deployed queue        drained where the run failed, and released
``sqs``   a queue made for each worker               deleted
``s3``    a prefix                                   the objects below it deleted
========  =========================================  ==================================================

Over any of them, large letters go by objects below that prefix.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from lamella.abort_mark import check_run
from lamella.channels.drain import drain
from lamella.channels.object_format import object_path
from lamella.errors import CloudError, RunAborted
from lamella.layout import RunKeys
from lamella.leases import SlotLeases
from lamella.mailbox import COMING, GOING
from lamella.plan import Address, Plan, S3Address, SnsAddress, SqsAddress
from lamella.records import PlanRecord
from lamella.runtime import Runtime

if TYPE_CHECKING:
    from mypy_boto3_sqs.literals import QueueAttributeNameType

_AT_ONCE = 16
# As a slot's queue in template.yaml; visibility is set by whoever receives.
_QUEUE_ATTRIBUTES: Mapping[QueueAttributeNameType, str] = {
    "MessageRetentionPeriod": "3600",
    "ReceiveMessageWaitTimeSeconds": "5",
    "SqsManagedSseEnabled": "true",
}


def reserve(runtime: Runtime, keys: RunKeys, plan: Plan, deadline_s: float) -> Address | None:
    """Take what the workers of an attempt need; again for the same attempt gives the same.

    Later attempts have the run's slots again, which are not drained before: whatever a queue still has of an
    earlier attempt its workers drop, and draining them in another invocation, which may be the second at the
    time, could take what they are sent. Queues that are made, and a prefix, are an attempt's own.

    Raises
    ------
    LeaseError
        If too few slots are free.
    CloudError
        If a queue can't be made.
    RunAborted
        If the run was stopped meanwhile; nothing is held then.
    """
    address: Address
    match plan.channel:
        case "sns":
            address = _lease(runtime, keys.run, plan.workers, deadline_s)
        case "sqs":
            address = _make_queues(runtime, keys, plan.workers)
        case "s3":
            return S3Address(keys.halo)
        case _:
            return None
    # Finish writes the mark and then looks what is held: whichever of the two comes later sees the other.
    try:
        check_run(runtime.bucket, keys)
    except RunAborted:
        release(runtime, keys, None)
        raise
    return address


def release(runtime: Runtime, keys: RunKeys, record: PlanRecord | None, *, objects_left: bool = True) -> None:
    """Give back all that a run holds, when its workers have left; nothing if it holds nothing.

    Parameters
    ----------
    keys
        Of its last attempt, or of one that it may not have come to.
    record
        None where Plan left none: then it may hold anything.
    objects_left
        Whether letters may have gone by objects.
    """
    channel = record.plan.channel if record else None
    if channel in {"sns", None}:
        _leases(runtime).release(keys.run)
    if channel in {"sqs", None}:
        _delete_queues(runtime, keys)
    if record and channel != "none" and (objects_left or channel == "s3"):
        gang = [(place, worker) for place in (COMING, GOING) for worker in range(record.plan.workers)]
        for each in keys.attempts:
            halo = ((place, worker) for place in record.places for worker in record.senders(place))
            runtime.bucket.below(each.halo).delete(map(object_path, chain(gang, halo)))


def release_attempt(runtime: Runtime, keys: RunKeys) -> None:
    """Give back what only one attempt held, so that none of its workers can send any more."""
    for urls in _made(runtime, keys):
        _delete_all(runtime, urls)


def release_after_failure(
    runtime: Runtime, keys: RunKeys, record: PlanRecord | None, *, staying: bool
) -> None:
    """The same for a run of which an attempt failed.

    Parameters
    ----------
    staying
        Whether some workers are not seen to have left: their slots are kept from others until their
        functions' time is over, and S3's lifecycle removes what they write.
    """
    leases = _leases(runtime)
    queues = [runtime.config.slot_queue(slot) for slot in leases.held(keys.run)]
    drain(runtime.sqs, queues, time.monotonic, time.sleep)
    if staying:
        # Whoever still runs had begun by now.
        leases.keep(keys.run, time.time() + runtime.config.worker_timeout_s)
        _delete_queues(runtime, keys)
    else:
        release(runtime, keys, record)


def _leases(runtime: Runtime) -> SlotLeases:
    return SlotLeases(runtime.s3, runtime.config.bucket, time.time, time.sleep)


def _lease(runtime: Runtime, run: str, workers: int, deadline_s: float) -> SnsAddress:
    config = runtime.config
    # A worker that starts at the deadline's last moment may run for its function's whole time.
    until_s = deadline_s + config.worker_timeout_s
    slots = _leases(runtime).take(run, workers, config.slots, until_s)
    return SnsAddress(config.topic_arn, slots, tuple(config.slot_queue(slot) for slot in slots))


def _make_queues(runtime: Runtime, keys: RunKeys, workers: int) -> SqsAddress:
    # Before the queues are: whoever cleans up must know of each, wherever this ends.
    runtime.bucket.write(keys.queues, json.dumps({"workers": workers}).encode(), "application/json")
    urls = _queue_urls(runtime, keys, workers)

    def make(url: str) -> None:
        name = url.rpartition("/")[2]
        try:
            runtime.sqs.create_queue(
                QueueName=name, Attributes=_QUEUE_ATTRIBUTES, tags={"project": "lamella", "run": keys.run}
            )
        except ClientError as error:
            raise CloudError(f"queue {name} can't be made: {error}: start the run again") from error

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(make, urls))
    return SqsAddress(urls)


def _delete_queues(runtime: Runtime, keys: RunKeys) -> None:
    for each in keys.attempts:
        for urls in _made(runtime, each):
            _delete_all(runtime, urls)
            runtime.bucket.delete([each.queues])


def _made(runtime: Runtime, keys: RunKeys) -> list[tuple[str, ...]]:
    """The queues that were made for an attempt, all together; nothing if there were none."""
    try:
        workers = int(json.loads(runtime.bucket.read(keys.queues))["workers"])
    except FileNotFoundError:
        return []
    return [_queue_urls(runtime, keys, workers)]


def _delete_all(runtime: Runtime, urls: tuple[str, ...]) -> None:
    def delete(url: str) -> None:
        try:
            runtime.sqs.delete_queue(QueueUrl=url)
        except runtime.sqs.exceptions.QueueDoesNotExist:
            return

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(delete, urls))


def _queue_urls(runtime: Runtime, keys: RunKeys, workers: int) -> tuple[str, ...]:
    """Named by a hash: a run's id may be longer than what a queue's name takes, and have other characters."""
    run = hashlib.sha256(keys.run.encode()).hexdigest()[:16]
    return tuple(f"{runtime.config.run_queues}{run}-{keys.attempt}-{worker}" for worker in range(workers))

"""What a run needs to have for itself: had by Plan, given back by Finish.

Every run leases a unit of concurrency for each of its workers, so that gangs that can't all run at once wait
for each other in line, instead of each with half of its workers. What they talk through is, by channel:

========  =========================================  ==================================================
channel   had                                        given back
========  =========================================  ==================================================
``sns``   slots, leased together with the units:     drained where the run failed, and released
          each a deployed queue
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
from lamella.lease_table import Amount, Granted
from lamella.leases import Leases, NotYet, Terms
from lamella.letters import COMING, GOING
from lamella.plan import Address, Plan, S3Address, SnsAddress, SqsAddress
from lamella.records import PlanRecord
from lamella.runtime import Runtime

if TYPE_CHECKING:
    from mypy_boto3_sqs.literals import QueueAttributeNameType

START_ALLOWANCE_S = 60  # between the plan and the last worker's start
_AT_ONCE = 16
# As a slot's queue in template.yaml; visibility is set by whoever receives.
_QUEUE_ATTRIBUTES: Mapping[QueueAttributeNameType, str] = {
    "MessageRetentionPeriod": "3600",
    "ReceiveMessageWaitTimeSeconds": "5",
    "SqsManagedSseEnabled": "true",
}


def room(runtime: Runtime) -> Amount:
    """What there is to lease: the account's concurrency less what is kept free for others, and the slots."""
    limits = runtime.lambda_.get_account_settings()["AccountLimit"]
    # What is reserved for single functions is not for others; none of Lamella's has any.
    shared = limits.get("UnreservedConcurrentExecutions", limits["ConcurrentExecutions"])
    return Amount(max(shared - runtime.config.keep_free, 1), runtime.config.slots)


def turn(runtime: Runtime, keys: RunKeys, have: Amount, started_s: float) -> Granted | None:
    """What a run got that has had its turn by now, perhaps before; None for one that is not in line.

    Raises
    ------
    NotYet, LeaseError, RunAborted
        As `reserve`.
    """
    until_s = run_deadline_s(runtime, started_s) + runtime.config.worker_timeout_s
    try:
        granted = _leases(runtime).turn(keys.run, Terms(have, until_s, runtime.config.lease_wait_s))
    except NotYet:
        _check_not_stopped(runtime, keys)
        raise
    if granted:
        _check_not_stopped(runtime, keys)
    return granted


def run_deadline_s(runtime: Runtime, started_s: float) -> float:
    """Unix time at which a run gives up whose Plan began then."""
    return started_s + runtime.config.worker_timeout_s + START_ALLOWANCE_S


def reserve(
    runtime: Runtime, keys: RunKeys, plan: Plan, deadline_s: float, have: Amount | None = None
) -> Address | None:
    """Take what the workers of an attempt need; again for the same attempt gives the same.

    Later attempts have the run's slots again, which are not drained before: whatever a queue still has of an
    earlier attempt its workers drop, and draining them in another invocation, which may be the second at the
    time, could take what they are sent. Queues that are made, and a prefix, are an attempt's own.

    Parameters
    ----------
    have
        What there is to lease (`room`), where that is known.

    Raises
    ------
    NotYet
        If others hold what it needs: the run is in line then, and has to ask again.
    LeaseError
        If it waited for that as long as it may.
    CloudError
        If a queue can't be made.
    RunAborted
        If the run was stopped meanwhile; nothing is held then.
    """
    config = runtime.config
    want = Amount(plan.workers, plan.workers if plan.channel == "sns" else 0)
    # A worker that starts at the deadline's last moment may run for its function's whole time.
    terms = Terms(have or room(runtime), deadline_s + config.worker_timeout_s, config.lease_wait_s)
    try:
        slots = _leases(runtime).take(keys.run, want, terms).slots
    except NotYet:
        _check_not_stopped(runtime, keys)
        raise
    address: Address | None = None
    match plan.channel:
        case "sns":
            address = SnsAddress(config.topic_arn, slots, tuple(config.slot_queue(slot) for slot in slots))
        case "sqs":
            address = _make_queues(runtime, keys, plan.workers)
        case "s3":
            address = S3Address(keys.halo)
    _check_not_stopped(runtime, keys)
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


def drain_repeated(runtime: Runtime, keys: RunKeys) -> None:
    """Empty the slots of a run of which some workers were started again, and sent again what others had.

    What comes later, the next run drops.
    """
    queues = [runtime.config.slot_queue(slot) for slot in _leases(runtime).held(keys.run)]
    drain(runtime.sqs, queues, time.monotonic, time.sleep)


def release_after_failure(
    runtime: Runtime, keys: RunKeys, record: PlanRecord | None, *, staying: bool
) -> None:
    """The same for a run of which an attempt failed.

    Parameters
    ----------
    staying
        Whether some workers are not seen to have left: what they hold is kept from others until their
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


def _leases(runtime: Runtime) -> Leases:
    return Leases(runtime.s3, runtime.config.bucket, time.time, time.sleep)


def _check_not_stopped(runtime: Runtime, keys: RunKeys) -> None:
    """Finish writes the mark and then looks what is held: whichever of the two comes later sees the other."""
    try:
        check_run(runtime.bucket, keys)
    except RunAborted:
        release(runtime, keys, None)
        raise


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

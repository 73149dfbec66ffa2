"""Sweep: remove what dead runs left, or say what would be removed. It may be done again, by several at once.

A run gives everything back by itself, through Finish; this is for those whose Finish never came, died, or had
to leave something to workers that did not answer. Nothing is removed of a run that goes on, nor of one whose
workers may not have left yet (`lamella.leftovers`), and nothing that is there for the user: plan, errors,
summary and predictions stay until the bucket's lifecycle rule takes them.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from botocore.exceptions import ClientError

from lamella.errors import CloudError
from lamella.events import SweepAnswer, SweepEvent, SweptRun
from lamella.layout import RUNS
from lamella.lease_table import Table
from lamella.leases import Leases
from lamella.leftovers import (
    MARGIN_S,
    UNKNOWN,
    Execution,
    Leftovers,
    run_of,
    run_of_work,
    run_queues,
    safe_from_s,
    state_of,
    totals,
)
from lamella.runtime import Runtime

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import ObjectIdentifierTypeDef

MOST_RUNS = 1000
"""Of one sweep: what others left, the next one finds."""

_AT_ONCE = 16
_DELETION = 1000  # objects that S3 deletes in a call
_Item = TypeVar("_Item")


def sweep(event: SweepEvent, runtime: Runtime) -> SweepAnswer:
    """Find what runs have left, and remove that of the dead ones, if asked to.

    Raises
    ------
    CloudError
        If S3 refuses to remove an object.
    LeaseError
        As `lamella.leases.Leases.release`.
    """
    # What is left is listed before executions are asked for: whatever was seen had an execution by then.
    found = _leftovers(runtime)
    names = sorted(found)[:MOST_RUNS]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        executions = dict(zip(names, pool.map(lambda run: _execution(runtime, run), names), strict=True))
    now_s, timeout_s = time.time(), runtime.config.worker_timeout_s
    states = {run: state_of(executions[run], found[run], now_s, timeout_s) for run in names}
    dead = [run for run in names if states[run] == "dead"]
    if event.remove:
        for run in dead:
            _remove(runtime, run, found[run])
            runtime.logger.info("swept", run=run, left=totals([found[run]]))

    def told(state: str) -> list[SweptRun]:
        return [_told(run, executions[run], found[run], timeout_s) for run in names if states[run] == state]

    return SweepAnswer(
        removed=event.remove,
        dead=told("dead"),
        ending=told("ending"),
        going=sum(state == "going" for state in states.values()),
        total=totals(found[run] for run in dead),
        more=len(found) > len(names),
    )


def _told(run: str, execution: Execution, left: Leftovers, timeout_s: float) -> SweptRun:
    return SweptRun(
        run=run,
        status=execution.status,
        safe_from_s=round(safe_from_s(execution, left, timeout_s), 3),
        **{name: count for name, count in totals([left]).items() if name != "runs"},
    )


def _leftovers(runtime: Runtime) -> dict[str, Leftovers]:
    """By run, everything that only workers need, of whatever run."""
    found: defaultdict[str, Leftovers] = defaultdict(Leftovers)
    bucket = runtime.config.bucket
    for page in runtime.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=RUNS):
        for item in page.get("Contents", []):
            if run := run_of_work(item["Key"]):
                found[run].objects += 1
                found[run].object_bytes += item["Size"]
                found[run].touch(item["LastModified"].timestamp())
    for some in runtime.s3.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=RUNS):
        for upload in some.get("Uploads", []):
            if run := run_of(upload["Key"]):
                found[run].uploads.append((upload["Key"], upload["UploadId"]))
                found[run].touch(upload["Initiated"].timestamp())
    for run, url, made_s in _queues(runtime):
        found[run].queues.append(url)
        found[run].touch(made_s)
    _find_leases(_leases(runtime).table(), found, runtime.config.worker_timeout_s + MARGIN_S)
    return dict(found)


def _find_leases(table: Table, found: defaultdict[str, Leftovers], wait_s: float) -> None:
    """What is leased, which ends when it expires, if nobody knows the run."""
    for hold in table.slots.values():
        found[hold.run].slots += 1
        found[hold.run].touch(hold.until_s - wait_s)
    for run, units in table.units.items():
        found[run].units += units.count
        found[run].touch(units.until_s - wait_s)
    for place in table.line:
        found[place.run].in_line += 1
        found[place.run].touch(place.until_s - wait_s)


def _queues(runtime: Runtime) -> Iterator[tuple[str, str, float]]:
    """Run, URL, and time of creation, of every queue that was made for a run."""
    prefix = runtime.config.run_queues
    pages = runtime.sqs.get_paginator("list_queues").paginate(
        QueueNamePrefix=prefix.rpartition("/")[2], PaginationConfig={"PageSize": 1000}
    )
    urls = run_queues((url for page in pages for url in page.get("QueueUrls", [])), prefix)

    def known(url: str) -> tuple[str, str, float] | None:
        try:
            tags = runtime.sqs.list_queue_tags(QueueUrl=url).get("Tags", {})
            attributes = runtime.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["CreatedTimestamp"])[
                "Attributes"
            ]
        except runtime.sqs.exceptions.QueueDoesNotExist:
            return None
        # One without the tag was not made by a run, whatever its name: no execution is known of it.
        run = tags.get("run") or url.rpartition("/")[2]
        return run, url, float(attributes["CreatedTimestamp"])

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        yield from (each for each in pool.map(known, urls) if each is not None)


def _execution(runtime: Runtime, run: str) -> Execution:
    machine = runtime.config.state_machine_arn
    arn = f"{machine.replace(':stateMachine:', ':execution:')}:{run}"
    try:
        told = runtime.stepfunctions.describe_execution(executionArn=arn)
    except ClientError as error:
        # A name that no execution can have is refused as such.
        if error.response.get("Error", {}).get("Code") in {"ExecutionDoesNotExist", "InvalidArn"}:
            return Execution(UNKNOWN)
        raise
    ended = told.get("stopDate")
    return Execution(told["status"], ended.timestamp() if ended else None)


def _remove(runtime: Runtime, run: str, left: Leftovers) -> None:
    for url in left.queues:
        try:
            runtime.sqs.delete_queue(QueueUrl=url)
        except runtime.sqs.exceptions.QueueDoesNotExist:
            continue
    if left.slots or left.units or left.in_line:
        _leases(runtime).release(run)
    for key, upload in left.uploads:
        try:
            runtime.s3.abort_multipart_upload(Bucket=runtime.config.bucket, Key=key, UploadId=upload)
        except runtime.s3.exceptions.NoSuchUpload:
            continue
    # Last, for it is what tells whoever looks next of a run that is not wholly swept.
    if left.objects:
        _remove_objects(runtime, f"{RUNS}{run}/work/")


def _remove_objects(runtime: Runtime, prefix: str) -> None:
    bucket = runtime.config.bucket
    pages = runtime.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    keys = (item["Key"] for page in pages for item in page.get("Contents", []))
    for some in _batched(keys, _DELETION):
        objects: list[ObjectIdentifierTypeDef] = [{"Key": key} for key in some]
        answer = runtime.s3.delete_objects(Bucket=bucket, Delete={"Objects": objects, "Quiet": True})
        for error in answer.get("Errors", []):
            raise CloudError(
                f"s3://{bucket}/{error.get('Key')} can't be removed: {error.get('Code')}: "
                f"{error.get('Message')}"
            )


def _leases(runtime: Runtime) -> Leases:
    return Leases(runtime.s3, runtime.config.bucket, time.time, time.sleep)


def _batched(items: Iterable[_Item], size: int) -> Iterator[Sequence[_Item]]:
    """Some at a time (itertools.batched is Python 3.12's)."""
    left = iter(items)
    while some := list(islice(left, size)):
        yield some

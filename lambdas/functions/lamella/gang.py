"""Whether all of a gang have started: none can end before all have begun, so a missing one fails the run."""

from __future__ import annotations

from lamella.errors import DeadlineExceeded, GangIncomplete
from lamella.layout import RunKeys
from lamella.mailbox import Mailbox
from lamella.plan import Assignment
from lamella.storage import Bucket

TURNED_AWAY = "Lambda.TooManyRequestsException"
"""The error of a worker that Lambda would not start, as Step Functions names it."""

_NAMED = 8


def meet(mailbox: Mailbox, assignment: Assignment, bucket: Bucket, keys: RunKeys) -> None:
    """Wait until all workers of the run are there.

    Raises
    ------
    GangIncomplete
        If they aren't by the assignment's ``start_by_s``.
    RunAborted
        If the run was ended meanwhile.
    """
    try:
        mailbox.barrier(assignment.workers, assignment.start_by_s)
    except DeadlineExceeded as error:
        seconds = f"within {assignment.start_within_s:g} s"
        raise GangIncomplete(_text(started(bucket, keys), assignment.workers, seconds, str(error))) from error


def turned_away(worker: int, bucket: Bucket, keys: RunKeys, workers: int) -> str:
    """Why a run failed one of whose workers Lambda would not start."""
    return _text(started(bucket, keys), workers, f"when Lambda had turned worker {worker} away for long", "")


def started(bucket: Bucket, keys: RunKeys) -> set[int]:
    """The workers that have left the mark of their start."""
    prefix = keys.started(0)[:-1]
    return {int(path.removeprefix(prefix)) for path in bucket.sizes(prefix)}


def _text(there: set[int], workers: int, when: str, otherwise: str) -> str:
    missing = sorted(set(range(workers)) - there)
    if not missing:
        return f"all {workers} workers had started {when}, but {otherwise}"
    named = ", ".join(map(str, missing[:_NAMED])) + (", ..." if len(missing) > _NAMED else "")
    return (
        f"only {len(there)} of {workers} workers had started {when} (not {named}): the account may have been "
        "running other functions: run again when they have ended, ask for fewer workers, or have Lambda's "
        "quota of concurrent executions raised"
    )

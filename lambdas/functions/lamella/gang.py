"""Whether all of a gang have started: none can end before all have begun, so a missing one fails the run."""

from __future__ import annotations

from typing import Protocol

from lamella.deadline import Deadline
from lamella.errors import DeadlineExceeded, GangIncomplete
from lamella.layout import RunKeys
from lamella.plan import Assignment

TURNED_AWAY = "Lambda.TooManyRequestsException"
"""The error of a worker that Lambda would not start, as Step Functions names it."""

_NAMED = 8


class Meeting(Protocol):
    """Where workers meet: a `lamella.mailbox.Mailbox`."""

    def barrier(self, workers: int, until: Deadline) -> None: ...


class Marks(Protocol):
    """Where workers leave marks: the stack's `lamella.storage.Bucket`."""

    def sizes(self, path: str = "") -> dict[str, int]: ...


def meet(mailbox: Meeting, assignment: Assignment, deadline: Deadline, bucket: Marks, keys: RunKeys) -> None:
    """Wait until all workers of the run are there.

    Parameters
    ----------
    deadline
        When this worker has to have ended.

    Raises
    ------
    GangIncomplete
        If they aren't by the assignment's ``start_by_s``, or so that this worker can still say so.
    DeadlineExceeded
        If all have started, and some don't come: then it is not for want of room.
    RunAborted
        If the run was ended meanwhile.
    """
    # Of the deadline the mailbox keeps back what its answer takes.
    until = deadline.sooner_at(assignment.start_by_s)
    kept_back_s = assignment.start_by_s - until.unix_s
    try:
        mailbox.barrier(assignment.workers, until)
    except DeadlineExceeded as error:
        there = started(bucket, keys)
        if len(there) >= assignment.workers:
            raise
        within_s = assignment.start_within_s - kept_back_s
        raise GangIncomplete(_text(there, assignment.workers, f"within {within_s:.0f} s")) from error


def turned_away(worker: int, bucket: Marks, keys: RunKeys, workers: int) -> str:
    """Why a run failed one of whose workers Lambda would not start."""
    there = started(bucket, keys) - {worker}
    return _text(there, workers, f"when Lambda had turned worker {worker} away for some minutes")


def started(bucket: Marks, keys: RunKeys) -> set[int]:
    """The workers that have left the mark of their start."""
    prefix = keys.started(0)[:-1]
    return {int(path.removeprefix(prefix)) for path in bucket.sizes(prefix)}


def _text(there: set[int], workers: int, when: str) -> str:
    missing = sorted(set(range(workers)) - there)
    named = ", ".join(map(str, missing[:_NAMED])) + (", ..." if len(missing) > _NAMED else "")
    return (
        f"only {len(there)} of {workers} workers had started {when} (not {named}): the account may have been "
        "running other functions: run again when they have ended, ask for fewer workers, or have Lambda's "
        "quota of concurrent executions raised"
    )

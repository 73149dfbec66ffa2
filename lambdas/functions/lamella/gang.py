"""Whether all of a gang have started: none can end before all have begun, so a missing one fails the run."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from lamella.errors import DeadlineExceeded, GangIncomplete
from lamella.layout import RunKeys
from lamella.plan import Assignment

TURNED_AWAY = "Lambda.TooManyRequestsException"
"""The error of a worker that Lambda would not start, as Step Functions names it."""

_NAMED = 8


class Meeting(Protocol):
    """Where workers meet: a `lamella.mailbox.Mailbox`."""

    def barrier(self, workers: int, until_s: float) -> None: ...


class Marks(Protocol):
    """Where workers leave marks: the stack's `lamella.storage.Bucket`."""

    def sizes(self, path: str = "") -> dict[str, int]: ...


def meet(mailbox: Meeting, assignment: Assignment, bucket: Marks, keys: RunKeys) -> None:
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


def turned_away(worker: int, bucket: Marks, keys: RunKeys, workers: int) -> str:
    """Why a run failed one of whose workers Lambda would not start."""
    when = f"when Lambda had turned worker {worker} away for some minutes"
    return _text(
        started(bucket, keys), workers, when, f"worker {worker} was turned away: start the run again"
    )


def started(bucket: Marks, keys: RunKeys) -> set[int]:
    """The workers that have left the mark of their start."""
    prefix = keys.started(0)[:-1]
    return {int(path.removeprefix(prefix)) for path in bucket.sizes(prefix)}


def _text(there: Collection[int], workers: int, when: str, otherwise: str) -> str:
    missing = sorted(set(range(workers)) - set(there))
    if not missing:
        return f"all {workers} workers had started {when}, but {otherwise}"
    named = ", ".join(map(str, missing[:_NAMED])) + (", ..." if len(missing) > _NAMED else "")
    return (
        f"only {len(there)} of {workers} workers had started {when} (not {named}): the account may have been "
        "running other functions: run again when they have ended, ask for fewer workers, or have Lambda's "
        "quota of concurrent executions raised"
    )

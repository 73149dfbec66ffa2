"""The abort mark: which workers of a run are to leave.

There is one object per run. It says either up to which attempt the workers are to leave, which Recover writes
unless there is one; or, by any other text, that all are, which whoever ends the run writes over it. So a run
that was ended is never gone on with, whichever of the two comes first.
"""

from __future__ import annotations

import re

from lamella.errors import RunAborted
from lamella.layout import RunKeys
from lamella.storage import Bucket

_ATTEMPTS = re.compile(rb"attempts up to (\d{1,9})")


def end_attempts(bucket: Bucket, keys: RunKeys) -> None:
    """Tell the workers up to this attempt to leave, and no later ones.

    Raises
    ------
    RunAborted
        If the run was ended.
    """
    if not bucket.create(keys.abort, b"attempts up to %d" % keys.attempt, "text/plain"):
        check_run(bucket, keys.next_attempt)


def check_run(bucket: Bucket, keys: RunKeys) -> None:
    """Whether an attempt is still to be made.

    Raises
    ------
    RunAborted
        If it isn't.
    """
    if is_ended(bucket, keys):
        raise RunAborted(f"run {keys.run} was stopped while it was being planned")


def is_ended(bucket: Bucket, keys: RunKeys) -> bool:
    """Whether the mark is there, and for this attempt; costs a request."""
    try:
        mark = bucket.read(keys.abort)
    except FileNotFoundError:
        return False
    earlier = _ATTEMPTS.fullmatch(mark)
    return earlier is None or keys.attempt <= int(earlier[1])

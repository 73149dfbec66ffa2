"""What runs have left, and of which runs it may be removed: pure functions over what was listed.

A run is dead when its execution has been over for as long as a worker may run, and a minute: then nobody can
still use what it left. Where Step Functions knows no execution (it forgets one 90 days after its end), what
was left has to have lain as long unchanged.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from lamella.layout import RUNS

State = Literal["going", "ending", "dead"]

UNKNOWN = "UNKNOWN"
"""The status of an execution that Step Functions does not know."""

# Step Functions may take a moment to show an execution, and to call a worker's function.
MARGIN_S = 60.0
_GOING = {"RUNNING", "PENDING_REDRIVE"}
_WORK = re.compile(rf"^{RUNS}([^/]+)/work/")
_OF_A_RUN = re.compile(rf"^{RUNS}([^/]+)/")


@dataclass
class Leftovers:
    """What one run has left.

    Attributes
    ----------
    queues
        URLs.
    slots, units, in_line
        How many slots, and how much concurrency, it holds; and how many places in line for them.
    objects, object_bytes
        Of those that only workers needed.
    uploads
        Key and id of each that was not finished.
    changed_s
        Unix time at which any of it was made or changed last, as far as that is known.
    """

    queues: list[str] = field(default_factory=list)
    slots: int = 0
    units: int = 0
    in_line: int = 0
    objects: int = 0
    object_bytes: int = 0
    uploads: list[tuple[str, str]] = field(default_factory=list)
    changed_s: float = 0.0

    def touch(self, time_s: float) -> None:
        """Something of it was made or changed then."""
        self.changed_s = max(self.changed_s, time_s)


@dataclass(frozen=True)
class Execution:
    """A run's execution, as Step Functions tells of it.

    Attributes
    ----------
    ended_s
        Unix time; None while it goes on, and where it is not known.
    """

    status: str
    ended_s: float | None = None


def state_of(execution: Execution, left: Leftovers, now_s: float, worker_timeout_s: float) -> State:
    """Whether a run goes on, may have workers that are still to leave, or is dead."""
    if execution.status in _GOING:
        return "going"
    return "dead" if now_s >= safe_from_s(execution, left, worker_timeout_s) else "ending"


def safe_from_s(execution: Execution, left: Leftovers, worker_timeout_s: float) -> float:
    """Unix time from which nobody can still use what a run has left whose execution is over, or unknown."""
    since_s = left.changed_s if execution.ended_s is None else execution.ended_s
    return since_s + worker_timeout_s + MARGIN_S


def run_of_work(key: str) -> str | None:
    """The run whose workers alone needed an object; None where it is no such object."""
    found = _WORK.match(key)
    return found[1] if found else None


def run_of(key: str) -> str | None:
    """The run that an object belongs to; None where it is none's."""
    found = _OF_A_RUN.match(key)
    return found[1] if found else None


def run_queues(urls: Iterable[str], prefix: str) -> list[str]:
    """Those queues that were made for a run of this stack.

    Parameters
    ----------
    prefix
        What their names begin with, or their URLs. Other stacks' names may begin with it too: that of the
        slots of a stack ``a-run`` with what the queues for runs of a stack ``a`` begin with.
    """
    name = re.compile(rf"^{re.escape(prefix.rpartition('/')[2])}[0-9a-f]{{16}}-[0-9]+-[0-9]+$")
    return [url for url in urls if name.match(url.rpartition("/")[2])]


def totals(left: Iterable[Leftovers]) -> dict[str, int]:
    """All of several runs' together."""
    found = list(left)
    return {
        "runs": len(found),
        "queues": sum(len(each.queues) for each in found),
        "slots": sum(each.slots for each in found),
        "units": sum(each.units for each in found),
        "in_line": sum(each.in_line for each in found),
        "objects": sum(each.objects for each in found),
        "object_bytes": sum(each.object_bytes for each in found),
        "uploads": sum(len(each.uploads) for each in found),
    }

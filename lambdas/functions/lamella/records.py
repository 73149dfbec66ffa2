"""What the states of a run leave for each other, and for the user, in the bucket."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from lamella.channels import Place
from lamella.errors import RunError
from lamella.plan import Plan, Range

JsonUsage = dict[str, dict[str, int | float]]
Span = tuple[int, int, float, float, int]
StepRow = tuple[int, float, float, float, float, int, int, int, float, int, int, tuple[Span, ...]]
"""A `lamella.engine.StepRecord`, without the names of its fields."""
Traffic = dict[str, tuple[tuple[int, int, int], ...]]
"""Calls and bytes by operation and layer: (layer, calls, bytes)."""


@dataclass(frozen=True)
class Share:
    """What one worker computes of the output.

    Attributes
    ----------
    rows
        Of the last layer; (0, 0) for a worker that computes none of it.
    samples
        Positions in the run.
    """

    rows: Range
    samples: Range


@dataclass(frozen=True)
class CheckpointCost:
    """What the checkpoints of all workers of a run cost.

    Attributes
    ----------
    every_s
        A worker writes none before so many seconds of computing, and no two within.
    most_usd_per_s
        While all of them compute.
    most_usd
        If they did so until the run's deadline.
    """

    every_s: float
    most_usd_per_s: float
    most_usd: float


@dataclass(frozen=True)
class Alternative:
    """Another plan: in words, and what it is predicted to take and cost."""

    plan: str
    seconds: float
    usd: float


@dataclass(frozen=True)
class Predicted:
    """What was expected of a run when it was planned.

    Attributes
    ----------
    seconds, prepare_s, infer_s
        As the summary's ``total``, ``prepare`` and ``infer``, without waiting for a turn.
    usd
        By service, and their ``total``.
    bound
        What most of the seconds go to: reading, computing, latency or start.
    assumed
        What lives, the profile and the price book.
    cheaper, faster
        The next plans on the front of seconds and dollars; None where there are none.
    """

    seconds: float
    prepare_s: float
    infer_s: float
    usd: dict[str, float]
    bound: str
    assumed: tuple[str, str, str]
    cheaper: Alternative | None = None
    faster: Alternative | None = None


@dataclass(frozen=True)
class FailedAttempt:
    """An attempt after which the workers were launched once more.

    Attributes
    ----------
    error, cause
        As they would have been the run's.
    seconds
        From the run's start until that was seen.
    usage
        Of its workers, as far as they could say.
    """

    error: str
    cause: str
    seconds: float
    usage: JsonUsage


@dataclass(frozen=True)
class PlanRecord:
    """``plan.json``: what was asked, and what was planned.

    Attributes
    ----------
    first_sample
        Number of the batch's first sample, in the input's counting.
    started_s, planned_s
        Unix times at which Plan began and ended.
    shares
        By worker.
    places
        Where workers may send to.
    dealt
        Whether samples have other positions than the input has them in: `RunKeys.dealt` says which.
    ids
        Whether the input named its samples.
    waited_s, looks
        How long the run had waited for its turn, before ``started_s``, and how often it had been told to.
    checkpoints
        What they cost at most; None where workers leave none.
    failed
        The attempts before this one, in their order.
    predicted
        What was expected; None of a plan of before there were predictions.
    """

    run: str
    attempt: int
    request: dict[str, Any]
    plan: Plan
    model: str
    first_sample: int
    started_s: float
    deadline_s: float
    shares: tuple[Share, ...]
    usage: JsonUsage
    places: tuple[Place, ...] = ()
    dealt: bool = False
    ids: bool = False
    waited_s: float = 0.0
    looks: int = 0
    checkpoints: CheckpointCost | None = None
    failed: tuple[FailedAttempt, ...] = ()
    planned_s: float = 0.0
    predicted: Predicted | None = None

    def senders(self, place: Place) -> list[int]:
        """Workers that may send there: those with the samples of its micro-batch."""
        return [
            worker
            for worker, share in enumerate(self.shares)
            if share.samples[0] <= place[1] < share.samples[1]
        ]


@dataclass(frozen=True)
class WeightUse:
    """Where a worker's weights came from.

    Attributes
    ----------
    read_bytes, reused_bytes
        Read by this run, and kept from earlier runs of the same execution environment.
    window_bytes
        The most that was read, or being read, and not yet computed with.
    """

    read_bytes: int = 0
    reused_bytes: int = 0
    window_bytes: int = 0


@dataclass(frozen=True)
class WorkerReport:
    """How a worker fared; lies beside its part of the output.

    Attributes
    ----------
    started_s, joined_s, ended_s
        Unix times: the handler's start, the moment it met its gang, and its end.
    steps
        What each step took, and what came of it.
    process
        Process id and execution environment (log stream).
    weights
        Where its weights came from.
    peak_bytes
        Most memory that its process had so far, earlier runs of the same process included.
    objects_left
        Objects in S3 that its letters to peers went by.
    incarnation
        1, and one more for each time that it was started again. Times and steps are of all its starts, and so
        is what it used, but for what an earlier start used after its last checkpoint.
    checkpoints
        How many it wrote.
    traffic
        Its calls to services that were made for a layer: to wait for its halo, and to send it; of the start
        that came to the end.
    """

    worker: int
    started_s: float
    joined_s: float
    ended_s: float
    memory_mb: int
    steps: tuple[StepRow, ...]
    process: tuple[int, str]
    usage: JsonUsage
    weights: WeightUse = WeightUse()
    peak_bytes: int = 0
    objects_left: int = 0
    incarnation: int = 1
    checkpoints: int = 0
    traffic: Traffic = field(default_factory=dict)


@dataclass(frozen=True)
class Ending:
    """What a worker that fails leaves as its end mark.

    Attributes
    ----------
    error
        Its kind and text.
    report
        How far it came.
    lines
        The last of its log.
    """

    error: str
    report: WorkerReport
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Collected:
    """What Collect found; Finish makes the summary of it.

    Attributes
    ----------
    started_s, ended_s
        Unix times of Collect itself.
    """

    categories: int
    workers: tuple[WorkerReport, ...]
    usage: JsonUsage
    started_s: float = 0.0
    ended_s: float = 0.0


_T = TypeVar("_T")
_ADAPTERS: dict[type, TypeAdapter[Any]] = {
    kind: TypeAdapter(kind) for kind in (PlanRecord, WorkerReport, Ending, Collected)
}


def to_json(record: PlanRecord | WorkerReport | Ending | Collected) -> bytes:
    """A record as it is stored."""
    return _ADAPTERS[type(record)].dump_json(record)


def from_json(kind: type[_T], data: bytes | str, where: str) -> _T:
    """Read what `to_json` wrote.

    Raises
    ------
    RunError
        If it is something else.
    """
    try:
        record: _T = _ADAPTERS[kind].validate_json(data)
    except ValidationError as error:
        raise RunError(f"{where} is no {kind.__name__}: {error.errors()[0]['msg']}") from error
    return record

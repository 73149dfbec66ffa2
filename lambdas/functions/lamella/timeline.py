"""``timeline.json``: when every worker of a run did what, layer by layer. Pure functions over its records.

Moments (``began_s``, ``started_s``, ``joined_s``, ``ended_s``) are seconds since Plan began, other ``*_s``
durations. Layers count from 0, samples are the run's positions. A step is what a worker does between
receiving and sending: under ``rows`` most often one layer of one micro-batch, elsewhere several layers,
whose ``spans`` are what the kernel took at a time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from pydantic import BaseModel, ConfigDict

from lamella.records import Ending, PlanRecord, StepRow, Traffic, WorkerReport
from lamella.usage import Count

VERSION = 1
_DIGITS = 6


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class StateTime(_Model):
    """When a state of the machine was at work; between two, functions start.

    Attributes
    ----------
    name
        Plan, Workers, Collect or Finish.
    """

    name: str
    began_s: float
    ended_s: float


class Span(_Model):
    """Consecutive layers of a step that the kernel took at a time.

    Attributes
    ----------
    live
        Samples that were not all zero after them.
    """

    first_layer: int
    layer: int
    read_s: float
    compute_s: float
    live: int


class Step(_Model):
    """A step of a worker: it waits, then reads and computes, then sends.

    Attributes
    ----------
    first_layer, layer
        The first and the last of its layers.
    first_sample
        Of its micro-batch.
    began_s
        When it began to wait.
    wait_s, read_s, compute_s, send_s
        For its peers' rows; for weights that were not there yet; in the kernel; to encode and post. Sending
        itself goes on beside the next step.
    live
        Samples that are not zero in all of this worker's rows.
    letters, sent_bytes
        How many peers were sent something, and how many bytes in all.
    spans
        None where the kernel took the whole step at a time.
    """

    first_layer: int
    layer: int
    first_sample: int
    began_s: float
    wait_s: float
    read_s: float
    compute_s: float
    send_s: float
    live: int
    letters: int
    sent_bytes: int
    spans: tuple[Span, ...] = ()


class Worker(_Model):
    """One worker.

    Attributes
    ----------
    incarnation
        Which of its starts: more than 1 where it died and went on.
    started_s, joined_s, ended_s
        When its handler began, when it had met its gang, and when it left.
    error
        Why it failed, if it did.
    """

    worker: int
    incarnation: int
    memory_mb: int
    log_stream: str
    started_s: float
    joined_s: float
    ended_s: float
    steps: tuple[Step, ...]
    error: str | None = None


class Calls(_Model):
    """How often an operation was called for a layer, and the payload that it carried."""

    calls: int
    bytes: int


class LayerTotals(_Model):
    """A layer over all workers and micro-batches.

    Attributes
    ----------
    wait_s, read_s, compute_s, send_s
        Added up over the workers. What a kernel took several layers at a time is shared evenly among them.
    live
        Samples of the run that are not all zero after it, at least: those of the worker with most of them,
        added up over micro-batches. None in the middle of what a kernel took at a time.
    letters, sent_bytes
        Sent by workers after it.
    calls
        To services, by operation: those made to send what the layer needs, and to wait for it.
    """

    layer: int
    wait_s: float
    read_s: float
    compute_s: float
    send_s: float
    live: int | None
    letters: int
    sent_bytes: int
    calls: dict[str, Calls]


class Timeline(_Model):
    """The whole file.

    Attributes
    ----------
    version
        Of this form; readers of 1 can read what is added to it.
    started_s
        Unix time at which Plan began: zero of all moments.
    workers
        Those that said how they fared: all, if the run succeeded.
    """

    version: int = VERSION
    run_id: str
    attempt: int
    status: str
    started_s: float
    states: tuple[StateTime, ...]
    workers: tuple[Worker, ...]
    layers: tuple[LayerTotals, ...]


def timeline(
    record: PlanRecord,
    status: str,
    workers: Sequence[WorkerReport],
    endings: Sequence[Ending] = (),
    collected_s: tuple[float, float] | None = None,
    finish_s: tuple[float, float] | None = None,
) -> Timeline:
    """A run's.

    Parameters
    ----------
    workers, endings
        Of the workers that ended well, and of those that did not.
    collected_s, finish_s
        Unix times at which Collect and Finish began and ended, as far as they did.
    """
    zero_s = record.started_s
    reports = [*workers, *(ending.report for ending in endings)]
    errors = {ending.report.worker: ending.error for ending in endings}
    told = sorted(reports, key=lambda report: report.worker)
    spans_s: list[tuple[str, tuple[float, float] | None]] = [
        ("Plan", (record.started_s, record.planned_s) if record.planned_s else None),
        ("Workers", _all_of(told)),
        ("Collect", collected_s),
        ("Finish", finish_s),
    ]
    states = tuple(
        StateTime(name=name, began_s=_rounded(span[0] - zero_s), ended_s=_rounded(span[1] - zero_s))
        for name, span in spans_s
        if span
    )
    return Timeline(
        run_id=record.run,
        attempt=record.attempt,
        status=status,
        started_s=zero_s,
        states=states,
        workers=tuple(_worker(report, zero_s, errors.get(report.worker)) for report in told),
        layers=tuple(layer_totals([report.steps for report in told], [report.traffic for report in told])),
    )


def layer_totals(steps: Iterable[Sequence[StepRow]], traffic: Iterable[Traffic]) -> Iterator[LayerTotals]:
    """Every layer that any worker did or called for, ascending."""
    seconds: defaultdict[int, list[float]] = defaultdict(lambda: [0.0] * 4)
    sent: defaultdict[int, list[int]] = defaultdict(lambda: [0, 0])
    live: defaultdict[int, dict[int, int]] = defaultdict(dict)
    for row in (row for rows in steps for row in rows):
        layer, wait_s, read_s, compute_s, send_s, alive, first, sample, _, letters, sent_bytes, spans = row
        seconds[first][0] += wait_s
        seconds[layer][3] += send_s
        sent[layer][0] += letters
        sent[layer][1] += sent_bytes
        for begin, end, reading_s, computing_s, left in spans or [(first, layer, read_s, compute_s, alive)]:
            for each in range(begin, end + 1):
                seconds[each][1] += reading_s / (end + 1 - begin)
                seconds[each][2] += computing_s / (end + 1 - begin)
            live[end][sample] = max(live[end].get(sample, 0), left)
    calls: defaultdict[int, dict[str, Count]] = defaultdict(dict)
    for operations in traffic:
        for name, counted in operations.items():
            for layer, made, size in counted:
                calls[layer][name] = calls[layer].get(name, Count()) + Count(made, 0, size)
    for layer in sorted(seconds.keys() | calls.keys()):
        wait_s, read_s, compute_s, send_s = map(_rounded, seconds[layer])
        yield LayerTotals(
            layer=layer,
            wait_s=wait_s,
            read_s=read_s,
            compute_s=compute_s,
            send_s=send_s,
            live=sum(live[layer].values()) if layer in live else None,
            letters=sent[layer][0],
            sent_bytes=sent[layer][1],
            calls=_calls(calls[layer]),
        )


def _all_of(reports: Sequence[WorkerReport]) -> tuple[float, float] | None:
    if not reports:
        return None
    return min(report.started_s for report in reports), max(report.ended_s for report in reports)


def _worker(report: WorkerReport, zero_s: float, error: str | None) -> Worker:
    return Worker(
        worker=report.worker,
        incarnation=report.incarnation,
        memory_mb=report.memory_mb,
        log_stream=report.process[1],
        started_s=_rounded(report.started_s - zero_s),
        joined_s=_rounded(report.joined_s - zero_s),
        ended_s=_rounded(report.ended_s - zero_s),
        steps=tuple(_step(row, zero_s) for row in report.steps),
        error=error,
    )


def _step(row: StepRow, zero_s: float) -> Step:
    (
        layer,
        wait_s,
        read_s,
        compute_s,
        send_s,
        live,
        first_layer,
        sample,
        began_s,
        letters,
        sent_bytes,
        spans,
    ) = row
    return Step(
        first_layer=first_layer,
        layer=layer,
        first_sample=sample,
        began_s=_rounded(began_s - zero_s),
        wait_s=_rounded(wait_s),
        read_s=_rounded(read_s),
        compute_s=_rounded(compute_s),
        send_s=_rounded(send_s),
        live=live,
        letters=letters,
        sent_bytes=sent_bytes,
        spans=tuple(
            Span(
                first_layer=first,
                layer=last,
                read_s=_rounded(reading_s),
                compute_s=_rounded(computing_s),
                live=left,
            )
            for first, last, reading_s, computing_s, left in spans
        ),
    )


def _calls(counts: Mapping[str, Count]) -> dict[str, Calls]:
    return {name: Calls(calls=count.calls, bytes=count.bytes) for name, count in sorted(counts.items())}


def _rounded(seconds: float) -> float:
    return round(seconds, _DIGITS)

"""How a run is cut: the plan, and each worker's task of steps.

A strategy makes tasks out of a plan; the engine walks their steps. An assignment is a task together with what
its worker must know of the run; it is what Plan writes to S3 and the worker reads.
"""

from __future__ import annotations

import functools
import json
from collections import Counter
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, TypeAdapter, ValidationError
from safetensors.numpy import save as save_tensors

from lamella.errors import RunError
from lamella.tensors import loaded, metadata

Range = tuple[int, int]
StrategyName = Literal["serial", "samples", "rows", "pipeline", "hybrid"]
ChannelName = Literal["sns", "sqs", "s3", "memory", "none"]


@dataclass(frozen=True)
class Plan:
    """What a run will do.

    Attributes
    ----------
    samples
        Samples in the batch.
    channel
        ``none`` where workers don't talk.
    memory_mb
        Of each worker's function.
    micro_batches
        Into how many each worker's samples are cut; one is computed while another is on its way.
    groups
        Of workers under ``hybrid``: each has a share of the samples, and its workers share the rows.
    """

    strategy: StrategyName
    channel: ChannelName
    workers: int
    memory_mb: int
    samples: int
    micro_batches: int = 1
    groups: int = 1

    @property
    def row_workers(self) -> int:
        """How many workers share the rows of a layer, by the cut for as many; 1 if each has whole layers."""
        return self.workers // self.groups if self.strategy in {"rows", "hybrid"} else 1

    @property
    def sample_shares(self) -> int:
        """Into how many shares the samples are dealt."""
        return self.workers if self.strategy == "samples" else self.groups


@dataclass(frozen=True)
class Link:
    """Rows of a layer that pass between this worker and a peer."""

    peer: int
    rows: NDArray[np.int64]


@dataclass(frozen=True)
class LayerPart:
    """The rows of one layer that a worker computes, and where their weights are.

    Attributes
    ----------
    entries
        The same rows, in stored entries.
    sha256
        Of the bytes that hold them, as `lamella.manifest.Layer.sha256` is taken.
    """

    layer: int
    rows: Range
    entries: Range
    sha256: str


@dataclass(frozen=True)
class Step:
    """Receive rows of the layer before ``parts[0]``, compute ``parts`` one by one, send rows of the last.

    Attributes
    ----------
    samples
        Which samples of the batch, ``[start, stop)``.
    receive, send
        What comes from, and goes to, each peer.
    """

    parts: tuple[LayerPart, ...]
    samples: Range
    receive: tuple[Link, ...] = ()
    send: tuple[Link, ...] = ()


@dataclass(frozen=True)
class Task:
    """One worker's work.

    Attributes
    ----------
    features
        The rows of the batch (features) that it needs; None for all.
    rows
        Of the model's last layer, those that it computes: (0, 0) if none.
    """

    worker: int
    samples: Range
    features: NDArray[np.int64] | None
    steps: tuple[Step, ...]
    rows: Range

    @property
    def parts(self) -> list[LayerPart]:
        """Everything that it computes with, each once, in the order of its first use."""
        return list(self.uses)

    @property
    def uses(self) -> Counter[LayerPart]:
        """How many steps compute with each part: more than one where there are micro-batches."""
        return Counter(part for step in self.steps for part in step.parts)

    def after(self, steps: int) -> Task:
        """What is left of it when so many steps are done."""
        return replace(self, steps=self.steps[steps:])


@dataclass(frozen=True)
class SnsAddress:
    """Where the workers of a run reach each other through SNS and SQS; lists are by worker."""

    topic_arn: str
    slots: tuple[int, ...]
    queue_urls: tuple[str, ...]
    kind: Literal["sns"] = "sns"


@dataclass(frozen=True)
class SqsAddress:
    """Each worker's own queue, by worker."""

    queue_urls: tuple[str, ...]
    kind: Literal["sqs"] = "sqs"


@dataclass(frozen=True)
class S3Address:
    """The prefix in the stack's bucket below which workers leave what they send; it ends with a slash."""

    prefix: str
    kind: Literal["s3"] = "s3"


Address = SnsAddress | SqsAddress | S3Address


@dataclass(frozen=True)
class Assignment:
    """A task, and what its worker must know of the run.

    Attributes
    ----------
    model
        S3 address of the prepared model.
    manifest_sha256
        Of the manifest that the plan was made from.
    deadline_s
        Unix time at which the run gives up.
    start_by_s, start_within_s
        Unix time at which a gang whose workers talk gives up if it is not complete, and how long that is.
    checkpoints
        Whether the worker leaves what it needs to go on if it is started again.
    input
        The worker's share of the samples, where it is small; else it is an object of its own.
    """

    run: str
    attempt: int
    workers: int
    model: str
    manifest_sha256: str
    channel: Address | None
    deadline_s: float
    task: Task
    start_by_s: float = 0.0
    start_within_s: float = 0.0
    checkpoints: bool = False
    input: bytes = b""

    def to_bytes(self) -> bytes:
        """A safetensors file: the row numbers as one tensor, everything else in its metadata."""
        pieces: list[NDArray[np.int64]] = []
        kept: dict[int, list[int]] = {}  # by identity: micro-batches have the same links
        position = 0

        def keep(rows: NDArray[np.int64] | None) -> list[int] | None:
            nonlocal position
            if rows is None:
                return None
            if id(rows) not in kept:
                pieces.append(rows)
                position += len(rows)
                kept[id(rows)] = [position - len(rows), position]
            return kept[id(rows)]

        task = self.task
        described = {
            "worker": task.worker,
            "samples": task.samples,
            "features": keep(task.features),
            "rows": task.rows,
            "steps": [
                {
                    "parts": [asdict(part) for part in step.parts],
                    "samples": step.samples,
                    "receive": [{"peer": link.peer, "rows": keep(link.rows)} for link in step.receive],
                    "send": [{"peer": link.peer, "rows": keep(link.rows)} for link in step.send],
                }
                for step in task.steps
            ],
        }
        head = {
            name: value for name, value in self.__dict__.items() if name not in {"task", "channel", "input"}
        }
        head |= {"channel": asdict(self.channel) if self.channel else None, "task": described}
        rows = np.concatenate(pieces) if pieces else np.zeros(0, np.int64)
        tensors: dict[str, NDArray[Any]] = {"rows": rows.astype(np.uint32)}
        tensors["input"] = np.frombuffer(self.input, np.uint8)
        return save_tensors(tensors, {"assignment": json.dumps(head)})


@dataclass(frozen=True)
class _Slice:
    """A link as it is written: its rows are a slice of one tensor."""

    peer: Annotated[int, Field(ge=0)]
    rows: Range


@dataclass(frozen=True)
class _Step:
    parts: Annotated[tuple[LayerPart, ...], Field(min_length=1)]
    samples: Range
    receive: tuple[_Slice, ...]
    send: tuple[_Slice, ...]


@dataclass(frozen=True)
class _Task:
    worker: Annotated[int, Field(ge=0)]
    samples: Range
    features: Range | None
    rows: Range
    steps: Annotated[tuple[_Step, ...], Field(min_length=1)]

    def __post_init__(self) -> None:
        micro_batches = sorted({step.samples for step in self.steps})
        bounds = [bound for samples in micro_batches for bound in samples]
        if (bounds[0], bounds[-1]) != self.samples or bounds[1:-1:2] != bounds[2::2]:
            raise ValueError("micro-batches overlap, or are not all of the samples")


@dataclass(frozen=True)
class _Assignment:
    run: str
    attempt: Annotated[int, Field(ge=1)]
    workers: Annotated[int, Field(ge=1)]
    model: str
    manifest_sha256: str
    channel: Annotated[Address, Field(discriminator="kind")] | None
    deadline_s: float
    task: _Task
    start_by_s: float = 0.0
    start_within_s: float = 0.0
    checkpoints: bool = False


_ASSIGNMENT = TypeAdapter(_Assignment)


def parse_assignment(data: bytes, where: str) -> Assignment:
    """Read what `Assignment.to_bytes` wrote.

    Raises
    ------
    RunError
        If it is something else.
    """
    try:
        tensors = loaded(data)
        all_rows, given = tensors["rows"].astype(np.int64), tensors["input"].tobytes()
        written = _ASSIGNMENT.validate_json(metadata(data)["assignment"])
    except (ValidationError, KeyError, ValueError) as error:
        raise RunError(f"{where} is not a worker's task: {str(error).splitlines()[0]}") from error

    # By identity: what is written again is as it was.
    @functools.cache
    def rows_of(bounds: Range) -> NDArray[np.int64]:
        if not 0 <= bounds[0] <= bounds[1] <= len(all_rows):
            raise RunError(f"{where} is not a worker's task: it names rows that it does not hold")
        return all_rows[slice(*bounds)]

    def links(slices: tuple[_Slice, ...]) -> tuple[Link, ...]:
        return tuple(Link(item.peer, rows_of(item.rows)) for item in slices)

    steps = tuple(
        Step(step.parts, step.samples, links(step.receive), links(step.send)) for step in written.task.steps
    )
    features = None if written.task.features is None else rows_of(written.task.features)
    head = {name: value for name, value in written.__dict__.items() if name != "task"}
    task = Task(written.task.worker, written.task.samples, features, steps, written.task.rows)
    return Assignment(**head, task=task, input=given)

"""What a worker leaves in S3 so that another start of it can go on: as bytes, and back.

A file of the safetensors format whose tensors are bytes: a description in JSON; blocks of activations,
encoded without a base; the bases of messages, each different one once; and messages that came early, as they
came. Its metadata have the sha256 of all of them: what is damaged is refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors

from lamella.activations import Activations
from lamella.channels import Source
from lamella.codec import Bases, decode, encode
from lamella.codec.live import Base
from lamella.engine import Progress, StepRecord
from lamella.errors import MessageError
from lamella.plan import Range, Task
from lamella.records import JsonUsage
from lamella.tensors import head, metadata

# Activations are encoded so many bytes of plain numbers at a time, which bounds the memory it takes.
BLOCK_BYTES = 4 << 20
_SHA256 = "sha256"
_STATE, _BASES, _LETTERS = "state", "bases", "letters"


@dataclass(frozen=True)
class Start:
    """One start of a worker.

    Attributes
    ----------
    incarnation
        1 for the first, and one more for each that took over.
    nonce
        Makes what it writes its own.
    log_stream
        Its function's.
    """

    incarnation: int
    nonce: str
    log_stream: str


@dataclass(frozen=True)
class Checkpoint:
    """How far a worker has come.

    Attributes
    ----------
    letters
        Messages that came, and that no step has taken yet.
    objects_left, written
        How many objects its letters went by, and how many checkpoints it wrote, in all of its starts.
    began_s, joined_s
        Unix times at which it was started first, and met its gang (0: not yet).
    usage
        Of all of its starts, as far as it is known.
    """

    start: Start
    progress: Progress = field(default_factory=Progress)
    letters: tuple[bytes, ...] = ()
    objects_left: int = 0
    written: int = 0
    began_s: float = 0.0
    joined_s: float = 0.0
    usage: JsonUsage = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """As it is stored."""
        progress = self.progress
        tensors: dict[str, bytes] = {}
        for name, blocks in (("held", progress.held), ("finished", progress.finished)):
            for samples, block in blocks.items():
                for part in _slices(len(block.values), samples):
                    tensors[f"{name}/{part[0]}"] = encode(block.select(part), part)
        kept: dict[bytes, int] = {}
        sent, received = (
            [
                _Pair(peer, samples, base.layer, kept.setdefault(base.bits.tobytes(), len(kept)))
                for (peer, samples), base in bases.items()
            ]
            for bases in (progress.bases.sent, progress.bases.received)
        )
        tensors[_BASES] = b"".join(kept)
        tensors[_LETTERS] = b"".join(self.letters)
        tensors[_STATE] = _ADAPTER.dump_json(
            _State(
                start=self.start,
                steps=progress.steps,
                held=tuple(progress.held),
                finished=tuple(progress.finished),
                sent=tuple(sent),
                received=tuple(received),
                bases_bytes=tuple(map(len, kept)),
                letters_bytes=tuple(map(len, self.letters)),
                records=tuple(progress.records),
                objects_left=self.objects_left,
                written=self.written,
                began_s=self.began_s,
                joined_s=self.joined_s,
                usage=self.usage,
            )
        )
        described = {_SHA256: _digest(tensors.values())}
        sizes = [(name, "U8", (len(data),)) for name, data in tensors.items()]
        return b"".join([head(sizes, described), *tensors.values()])  # type: ignore[arg-type]


def parse_checkpoint(data: bytes, task: Task, where: str) -> Checkpoint:
    """Read what `Checkpoint.to_bytes` wrote.

    No more memory is taken than the task's activations and the bytes themselves do, a few times over.

    Raises
    ------
    MessageError
        If it is something else, damaged, or of another task.
    """
    try:
        tensors = _checked(data)
        state = _ADAPTER.validate_json(tensors[_STATE].tobytes())
        return _restored(state, tensors, task)
    except (SafetensorError, ValidationError, KeyError, ValueError, MessageError) as error:
        raise MessageError(
            f"{where} is no checkpoint of this worker: {str(error).splitlines()[0]}"
        ) from error


def log_stream_of(data: bytes) -> str:
    """Where the worker logs that wrote a checkpoint.

    Raises
    ------
    MessageError
        If it is no checkpoint.
    """
    try:
        return _ADAPTER.validate_json(_checked(data)[_STATE].tobytes()).start.log_stream
    except (SafetensorError, ValidationError, KeyError, ValueError) as error:
        raise MessageError(f"this is no checkpoint: {str(error).splitlines()[0]}") from error


def received_until(task: Task, steps: int) -> set[Source]:
    """The letters that the first steps of a task take."""
    return {
        ((step.parts[0].layer, step.samples[0]), link.peer)
        for step in task.steps[:steps]
        for link in step.receive
    }


_Count = Annotated[int, Field(ge=0)]


@dataclass(frozen=True)
class _Pair:
    """A base, whose bits are the n-th of those that are kept."""

    peer: _Count
    samples: Range
    layer: _Count
    bits: _Count


@dataclass(frozen=True)
class _State:
    start: Start
    steps: _Count
    held: tuple[Range, ...]
    finished: tuple[Range, ...]
    sent: tuple[_Pair, ...]
    received: tuple[_Pair, ...]
    bases_bytes: tuple[_Count, ...]
    letters_bytes: tuple[_Count, ...]
    records: tuple[StepRecord, ...]
    objects_left: _Count
    written: _Count
    began_s: float
    joined_s: float
    usage: JsonUsage


_ADAPTER = TypeAdapter(_State)


def _restored(state: _State, tensors: Mapping[str, NDArray[np.uint8]], task: Task) -> Checkpoint:
    done = task.steps[: state.steps]
    if state.steps > len(task.steps) or len(state.records) != state.steps:
        raise ValueError(f"{state.steps} steps with {len(state.records)} records, of {len(task.steps)}")
    rows = {step.samples: step.parts[-1].rows for step in done}
    waiting = {step.samples for step in task.steps[state.steps :]}
    if set(state.held) != waiting & rows.keys():
        raise ValueError("other micro-batches are held than are on their way")
    if not set(state.finished) <= rows.keys() - waiting:
        raise ValueError("micro-batches are finished that are not")

    def blocks(name: str, of: tuple[Range, ...]) -> dict[Range, Activations]:
        return {samples: _block(tensors, name, rows[samples], samples) for samples in of}

    kept = [np.frombuffer(bits, np.uint8) for bits in _pieces(tensors[_BASES].tobytes(), state.bases_bytes)]
    bases = Bases()
    for found, pairs in ((bases.sent, state.sent), (bases.received, state.received)):
        for pair in pairs:
            if pair.bits >= len(kept):
                raise ValueError("a base is missing")
            found[pair.peer, pair.samples] = Base(pair.layer, kept[pair.bits])
    progress = Progress(
        state.steps, blocks("held", state.held), blocks("finished", state.finished), bases, [*state.records]
    )
    return Checkpoint(
        start=state.start,
        progress=progress,
        letters=tuple(_pieces(tensors[_LETTERS].tobytes(), state.letters_bytes)),
        objects_left=state.objects_left,
        written=state.written,
        began_s=state.began_s,
        joined_s=state.joined_s,
        usage=state.usage,
    )


def _block(tensors: Mapping[str, NDArray[np.uint8]], name: str, rows: Range, samples: Range) -> Activations:
    count = rows[1] - rows[0]
    parts = [decode(tensors[f"{name}/{part[0]}"].tobytes(), count, part) for part in _slices(count, samples)]
    live = np.concatenate([part.live for part in parts])
    return Activations(live, np.concatenate([part.values for part in parts], axis=1))


def _slices(rows: int, samples: Range) -> Iterator[Range]:
    """Samples, so many at a time that a block of them has `BLOCK_BYTES`; at least one slice."""
    length = max(1, BLOCK_BYTES // (4 * max(rows, 1)))
    starts: Iterable[int] = range(*samples, length) if samples[0] < samples[1] else [samples[0]]
    return ((start, min(start + length, samples[1])) for start in starts)


def _pieces(data: bytes, sizes: tuple[int, ...]) -> Iterator[bytes]:
    if sum(sizes) != len(data):
        raise ValueError(f"{len(data)} bytes instead of {sum(sizes)}")
    start = 0
    for size in sizes:
        yield data[start : start + size]
        start += size


def _checked(data: bytes) -> dict[str, NDArray[np.uint8]]:
    tensors: dict[str, NDArray[np.uint8]] = load_tensors(data)
    # In the order of the file, which is not that of the library's answer.
    size = int.from_bytes(data[:8], "little")
    if hashlib.sha256(memoryview(data)[8 + size :]).hexdigest() != metadata(data)[_SHA256]:
        raise ValueError("damaged, its sha256 differs")
    return tensors


def _digest(pieces: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for piece in chain(pieces):
        digest.update(piece)
    return digest.hexdigest()

"""What a message is, over any channel: chunks, duplicates, early arrivals, and what belongs to another run.

A channel delivers at least once and in any order. A message names run, attempt, layer, micro-batch, source
and chunk, and carries a checksum; each is applied once, early ones are kept, those of other runs are dropped.
"""

from __future__ import annotations

import hashlib
import logging
import struct
import zlib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from lamella.abort import AbortWatch
from lamella.channels import Channel, Source
from lamella.errors import DeadlineExceeded, MessageError, RunAborted

# magic, run, attempt, layer, first sample of the micro-batch, source, chunk, chunks, checksum
_HEADER = struct.Struct("<4s8sHIIHHHI")
_MAGIC = b"LML1"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Message:
    """One chunk of what a worker sends to a peer for one layer and micro-batch."""

    run: bytes
    attempt: int
    layer: int
    first_sample: int
    source: int
    chunk: int
    chunks: int
    payload: bytes

    def to_bytes(self) -> bytes:
        """Header, checksum, payload."""
        return self._header(self.checksum()) + self.payload

    def checksum(self) -> int:
        """Of header and payload."""
        return zlib.crc32(self.payload, zlib.crc32(self._header(0)))

    def _header(self, checksum: int) -> bytes:
        place = (self.layer, self.first_sample, self.source, self.chunk, self.chunks)
        return _HEADER.pack(_MAGIC, self.run, self.attempt, *place, checksum)


def parse_message(data: bytes) -> Message:
    """Read what `Message.to_bytes` wrote.

    Raises
    ------
    MessageError
        If it is something else, or damaged.
    """
    if len(data) < _HEADER.size or data[:4] != _MAGIC:
        raise MessageError("these bytes are no message")
    _, run, attempt, layer, first_sample, source, chunk, chunks, checksum = _HEADER.unpack_from(data)
    message = Message(run, attempt, layer, first_sample, source, chunk, chunks, data[_HEADER.size :])
    if message.checksum() != checksum:
        raise MessageError("a message is damaged: its checksum differs")
    if not message.chunk < message.chunks:
        raise MessageError(f"a message is chunk {message.chunk} of {message.chunks}")
    return message


def run_digest(run: str) -> bytes:
    """A run's mark in its messages: 8 bytes, for ids of any length."""
    return hashlib.sha256(run.encode()).digest()[:8]


class Mailbox:
    """One worker's letters.

    Parameters
    ----------
    clock
        Unix time, seconds.
    deadline_s
        When to give up waiting, on that clock.
    watch
        Ends a wait whose run is over.
    """

    def __init__(
        self,
        channel: Channel,
        run: str,
        attempt: int,
        worker: int,
        *,
        clock: Callable[[], float],
        deadline_s: float,
        watch: AbortWatch,
    ) -> None:
        self._channel, self._run, self._attempt, self._worker = channel, run_digest(run), attempt, worker
        self._clock, self._deadline_s, self._watch = clock, deadline_s, watch
        self._chunks: dict[Source, dict[int, Message]] = {}
        self._taken: set[Source] = set()

    def post(self, layer: int, first_sample: int, letters: Mapping[int, bytes]) -> None:
        """Send each peer its bytes for a layer and micro-batch."""
        room = self._channel.max_message_bytes - _HEADER.size
        messages = []
        for peer, data in letters.items():
            pieces = [data[start : start + room] for start in range(0, len(data), room)] or [b""]
            for chunk, piece in enumerate(pieces):
                message = Message(
                    self._run, self._attempt, layer, first_sample, self._worker, chunk, len(pieces), piece
                )
                messages.append((peer, message.to_bytes()))
        self._channel.send((layer, first_sample), messages)

    def collect(self, layer: int, first_sample: int, sources: Iterable[int]) -> dict[int, bytes]:
        """Wait for what each source sent for a layer and micro-batch.

        Raises
        ------
        DeadlineExceeded
            If something is still missing at the deadline; names from whom.
        RunAborted
            If the run was ended meanwhile.
        MessageError
            If a message of this run is damaged or contradicts another.
        """
        missing = {((layer, first_sample), source) for source in sources}
        wanted = frozenset(missing)
        missing = {key for key in missing if not self._complete(key)}
        while missing:
            self._watch.check()
            left_s = self._deadline_s - self._clock()
            if left_s <= 0:
                late = ", ".join(str(source) for _, source in sorted(missing))
                raise DeadlineExceeded(
                    f"layer {layer} waited in vain for worker {late} until the run's deadline"
                )
            missing -= self._receive(missing, min(self._watch.due_in_s, left_s))
        return {source: self._take((place, source)) for place, source in wanted}

    def close(self) -> None:
        """Leave the channel; may be called twice."""
        self._channel.close()

    def _receive(self, missing: Collection[Source], wait_s: float) -> set[Source]:
        """Take in what arrives; the keys that it completed."""
        deliveries = self._channel.receive(missing, wait_s)
        completed = set()
        for delivery in deliveries:
            try:
                message = parse_message(delivery.data)
            except MessageError:
                if delivery.data[4:12] == self._run:
                    raise
                _log.warning("dropped %d bytes that are no message", len(delivery.data))
                continue
            if message.run != self._run or message.attempt < self._attempt:
                continue
            if message.attempt > self._attempt:
                raise RunAborted(
                    f"attempt {message.attempt} of this run is under way: attempt {self._attempt} ends"
                )
            key = ((message.layer, message.first_sample), message.source)
            if key in self._taken:
                continue
            chunks = self._chunks.setdefault(key, {})
            had = next(iter(chunks.values()), message)
            if had.chunks != message.chunks or chunks.get(message.chunk, message) != message:
                raise MessageError(
                    f"worker {message.source} sent two different messages for layer {message.layer}"
                )
            chunks[message.chunk] = message
            if self._complete(key):
                completed.add(key)
        self._channel.acknowledge(deliveries)
        return completed

    def _complete(self, key: Source) -> bool:
        chunks = self._chunks.get(key, {})
        return any(len(chunks) == message.chunks for message in chunks.values())

    def _take(self, key: Source) -> bytes:
        chunks = self._chunks.pop(key)
        self._taken.add(key)
        return b"".join(chunks[i].payload for i in range(len(chunks)))

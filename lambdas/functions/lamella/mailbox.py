"""What a message is, over any channel: chunks, duplicates, early arrivals, and what belongs to another run.

A channel delivers at least once and in any order. A message names run, attempt, layer, micro-batch, source
and chunk, and carries a checksum; each is applied once, early ones are kept, those of other runs are dropped.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import struct
import zlib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from lamella.abort import AbortWatch
from lamella.channels import Channel, Place, Source
from lamella.errors import DeadlineExceeded, MessageError, RunAborted

# magic, run, attempt, layer, first sample of the micro-batch, source, chunk, chunks, checksum
_HEADER = struct.Struct("<4s8sHIIHHHI")
_MAGIC = b"LML1"

# Places of layer 0, of which no peer needs a halo: where workers tell that they have come, and where worker 0
# answers.
COMING: Place = (0, 0)
GOING: Place = (0, 1)
ANSWER_S = 5.0  # how much longer than the first worker the others wait for what it says

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
        return self._await((layer, first_sample), sources, self._deadline_s, _halo_missing)

    def reduce(
        self,
        place: Place,
        workers: int,
        data: bytes,
        combine: Callable[[bytes, bytes], bytes],
        until_s: float | None = None,
    ) -> bytes | None:
        """Bring together what each worker of a run has; all of them call it.

        Parameters
        ----------
        place
            One that nothing else is sent to.
        combine
            Called by worker 0, in the order of the workers.
        until_s
            When worker 0 gives up, if not at the deadline.

        Returns
        -------
        bytes or None
            All of it, at worker 0; None at the others, which don't wait.

        Raises
        ------
        DeadlineExceeded, RunAborted, MessageError
            As `collect`.
        """
        if self._worker:
            self.post(*place, {0: data})
            return None
        until_s = self._deadline_s if until_s is None else until_s
        letters = self._await(place, range(1, workers), until_s, _not_come)
        return functools.reduce(combine, (letters[worker] for worker in sorted(letters)), data)

    def barrier(self, workers: int, until_s: float) -> None:
        """Wait until every worker of the run has come here; all of them call it.

        Worker 0 hears of the others, and then tells them to go on, or who is missing.

        Parameters
        ----------
        until_s
            When to give up, on the mailbox's clock; the same for all.

        Raises
        ------
        DeadlineExceeded
            If some have not come by then; names them, at every worker.
        RunAborted, MessageError
            As `collect`.
        """
        if self._worker:
            self.reduce(COMING, workers, b"", _first)
            refusal = self._await(GOING, [0], until_s + ANSWER_S, _not_come)[0].decode(errors="replace")
        else:
            refusal = ""
            try:
                self.reduce(COMING, workers, b"", _first, until_s)
            except DeadlineExceeded as error:
                refusal = str(error)
            self.post(*GOING, dict.fromkeys(range(1, workers), refusal.encode()))
        if refusal:
            raise DeadlineExceeded(refusal)

    def close(self) -> None:
        """Leave the channel; may be called twice."""
        self._channel.close()

    def _await(
        self, place: Place, sources: Iterable[int], until_s: float, explain: Callable[[Place, str], str]
    ) -> dict[int, bytes]:
        """What each source sent to a place.

        Parameters
        ----------
        explain
            What it means that workers (as a list to read) have not sent by then.
        """
        wanted = frozenset((place, source) for source in sources)
        missing = {key for key in wanted if not self._complete(key)}
        while missing:
            self._watch.check()
            left_s = until_s - self._clock()
            # The last time without waiting: then a channel looks for all of them.
            missing -= self._receive(missing, max(0.0, min(self._watch.due_in_s, left_s)))
            if missing and left_s <= 0:
                late = ", ".join(str(source) for _, source in sorted(missing))
                raise DeadlineExceeded(explain(place, late))
        return {source: self._take((place, source)) for place, source in wanted}

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


def _halo_missing(place: Place, late: str) -> str:
    return f"layer {place[0]} waited in vain for worker {late} until the run's deadline"


def _not_come(_: Place, late: str) -> str:
    return (
        f"the others waited in vain for worker {late} to begin: start the run again, or ask for fewer "
        "workers (the account may not run as many at once)"
    )


def _first(one: bytes, _: bytes) -> bytes:
    return one

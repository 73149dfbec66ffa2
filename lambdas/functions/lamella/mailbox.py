"""Letters over any channel: large ones, duplicates, early arrivals, and what belongs to another run.

A channel delivers at least once and in any order. A message names run, attempt, layer, micro-batch, source
and chunk, and carries a checksum; each is applied once, early ones are kept, those of other runs are dropped.
A letter that does not fit a message goes by an object, and a message says so; where there are no objects, in
chunks.
"""

from __future__ import annotations

import functools
import logging
import math
import struct
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Self

from lamella.abort import AbortWatch
from lamella.channels import Channel, Place, Source
from lamella.deadline import Deadline
from lamella.errors import DeadlineExceeded, MessageError, RunAborted
from lamella.held import Held
from lamella.layer_context import for_layer
from lamella.letters import COMING, GOING, Letters
from lamella.messages import HEADER_BYTES, POINTER_CHUNKS, Message, is_of_run, parse_message, run_digest
from lamella.outbox import Outbox
from lamella.usage import Usage

ANSWER_S = 5.0  # how much longer than worker 0 the others wait, for what it says
_MOMENT = struct.Struct("<d")
_WHILE_SENDING_S = (
    1.0  # the longest wait for a letter while it may still turn out that one's own was not sent
)

_log = logging.getLogger(__name__)


class Mailbox:
    """One worker's letters. Close it after the last, or abort it; or use it in a ``with``, which does either.

    Parameters
    ----------
    deadline
        When to give up waiting.
    watch
        Ends a wait whose run is over.
    holds
        Whether what was received is acknowledged by `acknowledge` and at `close`, not at once.
    expected
        The letters that may come, and the most bytes of each: all that is kept of what comes. None where
        anything may.
    """

    def __init__(
        self,
        channel: Channel,
        run: str,
        attempt: int,
        worker: int,
        *,
        deadline: Deadline,
        watch: AbortWatch,
        holds: bool = False,
        expected: Mapping[Source, int] | None = None,
    ) -> None:
        self._letters = Letters(expected)
        self._channel, self._run, self._attempt, self._worker = channel, run_digest(run), attempt, worker
        self._deadline, self._watch = deadline, watch
        self._outbox = Outbox(self._check)
        self._objects_left = 0
        # What can be had again need not be held.
        self._held = Held(channel, time.monotonic) if holds and channel.forgets else None
        self._meanwhile: Callable[[], float] = lambda: math.inf

    @property
    def objects_left(self) -> int:
        """Objects that letters of this worker went by, so far."""
        return self._objects_left

    @property
    def holds(self) -> bool:
        """Whether anything was received and not acknowledged."""
        return bool(self._held)

    def go_on(self, taken: Iterable[Source], letters: Iterable[bytes], objects_left: int) -> None:
        """Be what the mailbox of an earlier start of this worker was.

        Parameters
        ----------
        taken
            The letters that it collected.
        letters
            What its `letters` gave.

        Raises
        ------
        MessageError
            If those are none.
        """
        self._letters.forget(taken)
        self._objects_left = objects_left
        for data in letters:
            message = self._accepted(data)
            if message:
                self._letters.keep(message)

    def letters(self) -> list[bytes]:
        """The messages that came and were not collected yet."""
        return [message.to_bytes() for message in self._letters.messages]

    def meanwhile(self, call: Callable[[], float]) -> None:
        """Have something done in waits for letters: at once, and again after the seconds that it gives."""
        self._meanwhile = call

    def acknowledge(self) -> None:
        """What was received so far need not come again.

        Raises
        ------
        CloudError
            If the service can't be told.
        """
        if self._held is not None:
            self._held.acknowledge()

    def renew(self, may: Callable[[], None]) -> float:
        """Keep what is held from coming again; as `Held.renew`."""
        return math.inf if self._held is None else self._held.renew(may)

    def leaving(self) -> Usage:
        """What `close` will still request."""
        return self._channel.leaving(len(self._held) if self._held is not None else 0)

    def post(self, layer: int, first_sample: int, letters: Mapping[int, bytes]) -> None:
        """Send each peer its bytes for a layer and micro-batch: in the background, in the order of posting.

        Raises
        ------
        LamellaError
            What went wrong with an earlier post. What goes wrong with this one is raised by what is called
            next.
        DeadlineExceeded, RunAborted
            If the deadline passed, or the run was ended, while too much was waiting to be sent.
        """
        place = (layer, first_sample)
        size_bytes = sum(len(data) for data in letters.values())
        self._outbox.put(size_bytes, lambda: self._send(place, letters))

    def flush(self) -> None:
        """Wait until all that was posted is sent.

        Raises
        ------
        LamellaError, DeadlineExceeded, RunAborted
            As `post`.
        """
        self._outbox.flush()

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
        with for_layer(layer):
            return self._await((layer, first_sample), sources, lambda: self._deadline, _halo_missing)

    def reduce(
        self,
        place: Place,
        workers: int,
        data: bytes,
        combine: Callable[[bytes, bytes], bytes],
        until: Deadline | None = None,
    ) -> bytes | None:
        """Bring together what each worker of a run has; all of them call it.

        Parameters
        ----------
        place
            One that nothing else is sent to.
        combine
            Called by worker 0, in the order of the workers.
        until
            When worker 0 gives up, if not at the mailbox's deadline.

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
        letters = self._await(place, range(1, workers), lambda: until or self._deadline, _not_come)
        return functools.reduce(combine, (letters[worker] for worker in sorted(letters)), data)

    def barrier(self, workers: int, until: Deadline, *, again: bool = False) -> None:
        """Wait until every worker of the run has come here; all of them call it.

        Worker 0 hears of the others, and then tells them to go on, or who is missing.

        Parameters
        ----------
        until
            When to give up; a little before the mailbox's deadline at the latest. Of different workers'
            moments, the first counts.
        again
            Whether an earlier start of this worker may have come here: then the others may have gone on long
            ago, and their moments passed.

        Raises
        ------
        DeadlineExceeded
            If some have not come by then; names them, at every worker.
        RunAborted, MessageError
            As `collect`.
        """
        # So that all can still hear who is missing.
        answer_s = max(0.0, min(ANSWER_S, self._deadline.left_s / 5))
        until = until.sooner(self._deadline.earlier(answer_s))
        if self._worker:
            self.post(*COMING, {0: _MOMENT.pack(until.unix_s)})
            answered = until.earlier(-answer_s)
            refusal = self._await(GOING, [0], lambda: answered, _not_come)[0].decode("utf-8", "replace")
        else:
            refusal = ""
            others = range(1, workers)

            def soonest() -> Deadline:
                """When the first of those who have come gives up."""
                if again:
                    return until
                come = [(COMING, worker) for worker in others if self._letters.is_whole((COMING, worker))]
                moments: list[float] = [_MOMENT.unpack(self._letters.read(key))[0] for key in come]
                return until.sooner_at(min(moments)) if moments else until

            try:
                self._await(COMING, others, soonest, _not_come)
            except DeadlineExceeded as error:
                refusal = str(error)
            self.post(*GOING, dict.fromkeys(others, refusal.encode()))
        if refusal:
            raise DeadlineExceeded(refusal)

    def close(self) -> None:
        """Send all that was posted, acknowledge what was received, and leave; may be called twice.

        Raises
        ------
        LamellaError, DeadlineExceeded, RunAborted
            As `post`.
        """
        self._outbox.close()
        self.acknowledge()
        self._channel.close()

    def abort(self) -> None:
        """Leave at once: what was posted and not sent is dropped. May be called twice, and after `close`."""
        self._outbox.abort()
        self._channel.abort()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def _send(self, place: Place, letters: Mapping[int, bytes]) -> None:
        """Called by the outbox's thread."""
        room = self._channel.max_message_bytes - HEADER_BYTES
        objects = self._channel.objects
        messages: list[tuple[int, bytes]] = []
        large: list[tuple[int, bytes]] = []
        for peer, data in letters.items():
            if objects and len(data) > room:
                large.append((peer, self._message(place, 0, 1, data)))
                messages.append((peer, self._message(place, 0, POINTER_CHUNKS, b"")))
                continue
            pieces = [data[start : start + room] for start in range(0, len(data), room)] or [b""]
            messages += [
                (peer, self._message(place, chunk, len(pieces), piece)) for chunk, piece in enumerate(pieces)
            ]
        with for_layer(place[0]):
            if objects and large:
                objects.write(place, large)
                self._objects_left += 1
            self._channel.send(place, messages)

    def _message(self, place: Place, chunk: int, chunks: int, payload: bytes) -> bytes:
        message = Message(self._run, self._attempt, *place, self._worker, chunk, chunks, payload)
        return message.to_bytes()

    def _check(self) -> None:
        """End a wait to send."""
        self._watch.check()
        self._deadline.check("what was posted could not be sent until the run's deadline")

    def _await(
        self,
        place: Place,
        sources: Iterable[int],
        until: Callable[[], Deadline],
        explain: Callable[[Place, str], str],
    ) -> dict[int, bytes]:
        """What each source sent to a place.

        Parameters
        ----------
        until
            When to give up, as it stands after what has come.
        explain
            What it means that workers (as a list to read) have not sent by then.
        """
        wanted = frozenset((place, source) for source in sources)
        missing = {key for key in wanted if not self._letters.is_whole(key)}
        while missing:
            self._outbox.raise_failure()
            self._watch.check()
            meanwhile_s = self._meanwhile()
            left_s = until().left_s
            # The last time without waiting: then a channel looks for all of them.
            sending_s = _WHILE_SENDING_S if self._outbox.busy else left_s
            wait_s = max(0.0, min(self._watch.due_in_s, left_s, sending_s, meanwhile_s))
            missing -= self._receive(missing, wait_s)
            if missing and left_s <= 0:
                late = ", ".join(str(source) for _, source in sorted(missing))
                raise DeadlineExceeded(explain(place, late))
        return {source: self._letters.take((place, source)) for place, source in wanted}

    def _receive(self, missing: Collection[Source], wait_s: float) -> set[Source]:
        """Take in what arrives; the keys that it completed."""
        deliveries = self._channel.receive(missing, wait_s)
        accepted = [(delivery, self._accepted(delivery.data)) for delivery in deliveries]
        messages = [message for _, message in accepted if message]
        # A repeated pointer is followed once, and none to what is already here.
        pointers = {
            message.key
            for message in messages
            if message.is_pointer and not self._letters.is_known(message.key)
        }
        arrived = [message for message in messages if not message.is_pointer]
        completed = {
            message.key
            for message in arrived + self._followed(sorted(pointers))
            if self._letters.keep(message)
        }
        if self._held is not None:
            self._held.add([delivery for delivery, message in accepted if message])
            deliveries = [delivery for delivery, message in accepted if not message]
        self._channel.acknowledge(deliveries)
        return completed

    def _accepted(self, data: bytes) -> Message | None:
        """A message of this run and attempt; None for what is to be dropped."""
        try:
            message = parse_message(data)
        except MessageError:
            if is_of_run(data, self._run, self._attempt):
                raise
            _log.warning("dropped %d bytes that are no message", len(data))
            return None
        if message.run != self._run or message.attempt < self._attempt:
            return None
        if message.attempt > self._attempt:
            raise RunAborted(
                f"attempt {message.attempt} of this run is under way: attempt {self._attempt} ends"
            )
        self._letters.check_expected(message.key, len(message.payload))
        return message

    def _followed(self, pointers: Sequence[Source]) -> list[Message]:
        """What lies where messages point to."""
        if not pointers:
            return []
        objects = self._channel.objects
        if objects is None:
            raise MessageError("a message points to an object, and this channel has none")
        messages = [parse_message(data) for data in objects.read_all(pointers)]
        for source, message in zip(pointers, messages, strict=True):
            if (message.run, message.attempt, message.key) != (self._run, self._attempt, source):
                raise MessageError(f"the object of worker {source[1]} for layer {source[0][0]} is another's")
        return messages


def _halo_missing(place: Place, late: str) -> str:
    return f"layer {place[0]} waited in vain for worker {late} until the run's deadline"


def _not_come(_: Place, late: str) -> str:
    return (
        f"the others waited in vain for worker {late} to begin: start the run again, or ask for fewer "
        "workers (the account may not run as many at once)"
    )

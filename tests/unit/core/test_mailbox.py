"""At least once and in any order on the channel; exactly once to the engine."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella.abort import LOOK_EVERY_S, AbortWatch
from lamella.channels import Channel, Delivery, Place, Source
from lamella.deadline import Deadline
from lamella.errors import DeadlineExceeded, MessageError, RunAborted
from lamella.mailbox import Mailbox
from lamella.messages import Message, parse_message, run_digest


class Shelf:
    """Where workers leave what no message holds; all that they leave is worker 0's."""

    def __init__(self) -> None:
        self.left: dict[Source, bytes] = {}
        self.sender = 0
        self.read: list[Source] = []

    def write(self, place: Place, messages: Sequence[tuple[int, bytes]]) -> None:
        assert (place, self.sender) not in self.left
        ((_, self.left[place, self.sender]),) = messages

    def read_all(self, sources: Sequence[Source]) -> list[bytes]:
        self.read += sources
        return [self.left[source] for source in sources]


class Script(Channel):
    """A channel that delivers what a test says, in that order, a few at a time."""

    kind = "memory"

    def __init__(
        self, arriving: Sequence[bytes], max_message_bytes: int = 1 << 18, objects: Shelf | None = None
    ) -> None:
        self.max_message_bytes, self.objects = max_message_bytes, objects
        self.arriving = list(arriving)
        self.sent: list[tuple[int, bytes]] = []
        self.acknowledged: list[str] = []
        self.clock = 0.0

    def send(self, place: Place, messages: Sequence[tuple[int, bytes]]) -> None:
        self.sent += messages

    def receive(self, wanted: Collection[Source], wait_s: float) -> list[Delivery]:
        if not self.arriving:
            self.clock += wait_s
        batch, self.arriving = self.arriving[:3], self.arriving[3:]
        return [Delivery(data, data.hex()) for data in batch]

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        self.acknowledged += [delivery.receipt for delivery in deliveries]


def mailbox(
    channel: Script,
    attempt: int = 1,
    worker: int = 0,
    aborted: Callable[[], bool] = lambda: False,
    expected: Mapping[Source, int] | None = None,
) -> Mailbox:
    def clock() -> float:
        return channel.clock

    watch = AbortWatch("run", aborted, clock)
    deadline = Deadline(60.0, clock, clock)
    return Mailbox(channel, "run", attempt, worker, deadline=deadline, watch=watch, expected=expected)


def written(
    source: int,
    layer: int,
    data: bytes,
    room: int,
    run: str = "run",
    attempt: int = 1,
    shelf: Shelf | None = None,
) -> list[bytes]:
    """What a worker would put on the channel, in messages of at most ``room`` bytes."""
    channel = Script([], room, shelf)
    if shelf:
        shelf.sender = source
    sender = Mailbox(
        channel,
        run,
        attempt,
        source,
        deadline=Deadline.after(60),
        watch=AbortWatch(run, lambda: False, lambda: 0.0),
    )
    with sender:
        sender.post(layer, 0, {0: data})
    return [message for _, message in channel.sent]


payloads = st.dictionaries(
    st.tuples(st.integers(1, 3), st.integers(0, 4)), st.binary(max_size=60), min_size=1
)


@settings(deadline=None)  # threads
@given(payloads, st.integers(40, 80), st.data())
def test_any_order_and_any_duplicates_give_every_letter_once(
    letters: dict[tuple[int, int], bytes], room: int, data: st.DataObject
) -> None:
    messages = [m for (source, layer), body in letters.items() for m in written(source, layer, body, room)]
    again = data.draw(st.lists(st.sampled_from(messages), max_size=8))
    foreign = (
        written(1, 0, b"other", room, run="another") + written(2, 1, b"old", room, attempt=1) + [b"junk", b""]
    )
    if data.draw(st.booleans()):
        messages = messages + again + foreign[:1] + foreign[-2:]
    channel = Script(data.draw(st.permutations(messages)))
    box = mailbox(channel)
    for layer in range(5):
        sources = [source for source, at in letters if at == layer]
        got = box.collect(layer, 0, sources)
        assert got == {source: letters[source, layer] for source in sources}
    assert len(channel.acknowledged) == len(set(channel.acknowledged)) or again


@settings(deadline=None)  # threads
@given(payloads, st.integers(40, 80), st.data())
def test_the_same_of_letters_that_go_by_objects(
    letters: dict[tuple[int, int], bytes], room: int, data: st.DataObject
) -> None:
    shelf = Shelf()
    messages = [
        message
        for (source, layer), body in letters.items()
        for message in written(source, layer, body, room, shelf=shelf)
    ]
    # Of another run, whose object is not here.
    messages += written(1, 0, bytes(100), room, run="another", shelf=Shelf())
    assert all(len(message) <= room for message in messages)
    again = data.draw(st.lists(st.sampled_from(messages), max_size=8))
    box = mailbox(Script(data.draw(st.permutations(messages + again)), room, shelf))
    for layer in range(5):
        sources = [source for source, at in letters if at == layer]
        got = box.collect(layer, 0, sources)
        assert got == {source: letters[source, layer] for source in sources}
    assert len(shelf.read) == len(set(shelf.read)) == len(shelf.left)


def test_a_pointer_to_what_is_not_the_letter_is_an_error() -> None:
    shelf = Shelf()
    (pointer,) = written(1, 2, bytes(100), 60, shelf=shelf)
    with pytest.raises(MessageError, match="this channel has none"):
        mailbox(Script([pointer])).collect(2, 0, [1])
    (shelf.left[(2, 0), 1],) = written(1, 3, bytes(100), 200)
    with pytest.raises(MessageError, match="the object of worker 1 for layer 2 is another's"):
        mailbox(Script([pointer], objects=shelf)).collect(2, 0, [1])
    shelf.left[(2, 0), 1] = b"junk"
    with pytest.raises(MessageError, match="no message"):
        mailbox(Script([pointer], objects=shelf)).collect(2, 0, [1])
    (pointing,) = written(1, 2, bytes(100), 60, shelf=Shelf())
    with pytest.raises(MessageError, match="payload of its own"):
        parse_message(replace(parse_message(pointing), payload=b"x").to_bytes())


def test_an_older_attempt_is_ignored_and_a_newer_one_ends_this() -> None:
    old = written(1, 0, b"old", 100, attempt=1)
    new = written(1, 0, b"new", 100, attempt=2)
    assert mailbox(Script([*old, *new]), attempt=2).collect(0, 0, [1]) == {1: b"new"}
    channel = Script(new)
    with pytest.raises(RunAborted, match="attempt 2"):
        mailbox(channel, attempt=1).collect(0, 0, [1])
    assert channel.acknowledged == []


def test_a_damaged_message_of_this_run_is_an_error() -> None:
    (message,) = written(1, 0, b"payload", 100)
    with pytest.raises(MessageError, match="damaged"):
        mailbox(Script([message[:-1] + b"X"])).collect(0, 0, [1])


def test_a_damaged_message_that_an_attempt_failed_by_is_dropped_in_the_next() -> None:
    (damaged,) = written(1, 0, b"payload", 100, attempt=1)
    whole = written(1, 0, b"payload", 100, attempt=2)
    channel = Script([damaged[:-1] + b"X", *whole])
    assert mailbox(channel, attempt=2).collect(0, 0, [1]) == {1: b"payload"}
    assert len(channel.acknowledged) == 2


@given(st.binary(min_size=1, max_size=30), st.data())
def test_a_flipped_bit_never_parses(payload: bytes, data: st.DataObject) -> None:
    message = bytearray(Message(run_digest("run"), 1, 2, 0, 3, 0, 1, payload).to_bytes())
    message[data.draw(st.integers(0, len(message) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(MessageError):
        parse_message(bytes(message))


def test_two_different_messages_for_one_place_are_an_error() -> None:
    (first,) = written(1, 3, b"a", 100)
    (second,) = written(1, 3, b"b", 100)
    with pytest.raises(MessageError, match="worker 1 sent two different"):
        mailbox(Script([first, second])).collect(3, 0, [1, 2])


def test_a_chunk_beyond_its_count_is_an_error() -> None:
    message = replace(parse_message(written(1, 0, b"a", 100)[0]), chunk=3)
    with pytest.raises(MessageError, match="chunk 3 of 1"):
        parse_message(message.to_bytes())


def test_the_deadline_names_who_is_missing() -> None:
    channel = Script(written(1, 4, b"here", 100))
    with pytest.raises(DeadlineExceeded, match="layer 4 waited in vain for worker 2, 3 "):
        mailbox(channel).collect(4, 0, [1, 2, 3])
    assert channel.clock == pytest.approx(60.0)


def test_an_abort_is_seen_within_five_seconds_of_waiting() -> None:
    channel = Script([])
    box = mailbox(channel, aborted=lambda: channel.clock >= 11)
    with pytest.raises(RunAborted, match="run run was ended"):
        box.collect(0, 0, [1])
    assert 11 <= channel.clock <= 11 + LOOK_EVERY_S


def test_the_watch_is_one_for_all_waits() -> None:
    """Short waits one after the other don't put the next look off."""
    channel = Script([])
    looks: list[float] = []

    def aborted() -> bool:
        looks.append(channel.clock)
        return False

    box = mailbox(channel, aborted=aborted)
    for layer in range(20):
        channel.clock += 1.9
        channel.arriving = written(1, layer, b"x", 100)
        box.collect(layer, 0, [1])
    assert max(b - a for a, b in pairwise(looks)) <= LOOK_EVERY_S + 1.9


def test_a_late_duplicate_is_not_had_again() -> None:
    (message,) = written(1, 0, b"once", 100)
    others = [m for layer in (1, 2) for m in written(1, layer, b"more", 100)]
    box = mailbox(Script([message, *others, message]))
    assert box.collect(0, 0, [1]) == {1: b"once"}
    with pytest.raises(DeadlineExceeded):
        box.collect(0, 0, [1])

"""What is posted is sent in the background, in order, bounded, and never silently lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Sequence

import pytest

from lamella.abort import AbortWatch
from lamella.channels import Channel, Delivery, Place, Source
from lamella.deadline import Deadline
from lamella.errors import CloudError, DeadlineExceeded, RunAborted
from lamella.mailbox import Mailbox
from lamella.outbox import MOST_BYTES, MOST_POSTS, Outbox


def never() -> None:
    return None


def ended() -> None:
    raise RunAborted("over")


def failing() -> None:
    raise CloudError("the topic is gone")


class Gate:
    """Sending that waits until it is let."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.sent: list[int] = []

    def sends(self, number: int) -> Callable[[], None]:
        def send() -> None:
            assert self.open.wait(10)
            self.sent.append(number)

        return send


def test_all_is_sent_in_order_and_nobody_waits_for_it() -> None:
    gate, outbox = Gate(), Outbox(never)
    outbox.put(1, gate.sends(0))
    outbox.put(1, gate.sends(1))
    assert outbox.busy
    assert gate.sent == []
    gate.open.set()
    for number in range(2, 20):
        outbox.put(1, gate.sends(number))
    outbox.close()
    outbox.close()
    assert not outbox.busy
    assert gate.sent == list(range(20))


@pytest.mark.parametrize(("posts", "size_bytes"), [(MOST_POSTS, 1), (1, MOST_BYTES)])
def test_too_much_under_way_is_waited_for_and_an_abort_ends_that(posts: int, size_bytes: int) -> None:
    gate, outbox = Gate(), Outbox(ended)
    for number in range(posts):
        outbox.put(size_bytes, gate.sends(number))
    with pytest.raises(RunAborted):
        outbox.put(size_bytes, gate.sends(posts))
    with pytest.raises(RunAborted):
        outbox.flush()
    gate.open.set()
    outbox.abort()


def test_one_post_larger_than_all_that_may_wait_is_sent() -> None:
    gate, outbox = Gate(), Outbox(never)
    gate.open.set()
    outbox.put(2 * MOST_BYTES, gate.sends(0))
    outbox.close()
    assert gate.sent == [0]


def test_what_went_wrong_is_raised_next_and_nothing_is_sent_after_it() -> None:
    gate, outbox = Gate(), Outbox(never)
    gate.open.set()
    outbox.put(1, failing)
    with pytest.raises(CloudError, match="the topic is gone"):
        outbox.flush()
    for call in (outbox.flush, outbox.raise_failure, outbox.close, lambda: outbox.put(1, gate.sends(0))):
        with pytest.raises(CloudError, match="the topic is gone"):
            call()
    outbox.abort()
    assert gate.sent == []


def test_an_abort_drops_what_waits_and_does_not_wait_long_for_the_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("lamella.outbox.LEAVE_S", 0.2)
    gate, outbox = Gate(), Outbox(never)
    outbox.put(1, gate.sends(0))
    outbox.put(1, gate.sends(1))
    began = time.monotonic()
    outbox.abort()
    outbox.abort()
    assert time.monotonic() - began < 1
    gate.open.set()
    outbox._thread.shutdown(wait=True)
    assert gate.sent == [0]


class Broken(Channel):
    """A channel that takes nothing, and on which nothing comes."""

    kind = "memory"
    max_message_bytes = 1000

    def __init__(self) -> None:
        self.ends: list[str] = []

    def send(self, place: Place, messages: Sequence[tuple[int, bytes]]) -> None:
        raise CloudError("the topic is gone")

    def receive(self, wanted: Collection[Source], wait_s: float) -> list[Delivery]:
        time.sleep(min(wait_s, 0.05))
        return []

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        return None

    def close(self) -> None:
        self.ends.append("closed")

    def abort(self) -> None:
        self.ends.append("aborted")


def mailbox(channel: Channel, seconds: float = 20) -> Mailbox:
    watch = AbortWatch("run", lambda: False, time.monotonic)
    return Mailbox(channel, "run", 1, 0, deadline=Deadline.after(seconds), watch=watch)


def test_a_wait_for_letters_ends_when_ones_own_could_not_be_sent() -> None:
    began = time.monotonic()
    box = mailbox(Broken())
    box.post(1, 0, {1: b"x"})
    with pytest.raises(CloudError, match="the topic is gone"):
        box.collect(1, 0, [1])
    assert time.monotonic() - began < 5


def test_a_worker_that_fails_aborts_and_one_that_is_done_closes() -> None:
    channel = Broken()

    def work() -> None:
        with mailbox(channel) as box:
            box.post(1, 0, {1: b"x"})
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        work()
    assert channel.ends == ["aborted"]
    with mailbox(channel):
        pass
    assert channel.ends == ["aborted", "closed"]


def test_what_can_not_be_sent_until_the_deadline_is_an_error() -> None:
    gate = Gate()

    class Slow(Broken):
        def send(self, place: Place, messages: Sequence[tuple[int, bytes]]) -> None:
            gate.open.wait(10)

    box = mailbox(Slow(), seconds=0.5)
    box.post(1, 0, {1: b"x"})
    with pytest.raises(DeadlineExceeded, match="could not be sent"):
        box.flush()
    gate.open.set()
    box.abort()

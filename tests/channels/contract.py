"""What every channel must do; a channel's suite is an empty subclass with two fixtures of its own.

``service`` is what the channel talks to, and can be made to misbehave; ``gang`` makes a run's ends.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from lamella.abort import LOOK_EVERY_S, AbortWatch
from lamella.channels import Channel, Delivery, Place, Source
from lamella.channels.estimates import PRICES, Send
from lamella.deadline import Deadline
from lamella.errors import CloudError, DeadlineExceeded, RunAborted, RunError
from lamella.mailbox import Mailbox
from lamella.prediction import load_profile
from tests.channels.faults import Service

# Makes a run's ends: one channel per worker.
Gang = Callable[[int], Sequence[Channel]]
PLACE: Place = (1, 0)
FROM_0: list[Source] = [(PLACE, 0)]
# Whose price does not depend on when things happen.
PRICED = (
    "sns.publish_batch",
    "sqs.send_message_batch",
    "sqs.delete_message_batch",
    "s3.put_object",
)


def mailbox(
    channel: Channel,
    worker: int,
    *,
    run: str = "run",
    attempt: int = 1,
    seconds: float = 20.0,
    aborted: Callable[[], bool] = lambda: False,
) -> Mailbox:
    return Mailbox(
        channel,
        run,
        attempt,
        worker,
        deadline=Deadline.after(seconds),
        watch=AbortWatch(run, aborted, time.monotonic),
    )


def received(channel: Channel, count: int, seconds: float = 10.0) -> list[Delivery]:
    """The first ``count`` messages from worker 0, acknowledged."""
    found: list[Delivery] = []
    until = time.monotonic() + seconds
    while len(found) < count and time.monotonic() < until:
        batch = channel.receive(FROM_0, 1)
        channel.acknowledge(batch)
        found += batch
    channel.close()
    return found


def posted(box: Mailbox, layer: int, first_sample: int, letters: Mapping[int, bytes]) -> None:
    """Post, and see that it was sent."""
    box.post(layer, first_sample, letters)
    box.flush()


def at_once(calls: Sequence[Callable[[], object]]) -> list[object]:
    """What each call gives, or raises, of workers that run at the same time."""

    def outcome(call: Callable[[], object]) -> object:
        try:
            return call()
        except RunError as error:
            return error

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(outcome, calls))


class ChannelContract:
    def test_a_message_reaches_its_target_alone_and_whole(self, gang: Gang) -> None:
        a, b, c = gang(3)
        data = bytes(range(256)) * 5
        a.send(PLACE, [(1, data)])
        assert [delivery.data for delivery in received(b, 1)] == [data]
        assert c.receive([], 0) == []
        assert a.receive([], 0) == []

    def test_one_send_goes_to_many(self, gang: Gang) -> None:
        ends = gang(4)
        ends[0].send(PLACE, [(target, str(target).encode()) for target in (1, 2, 3, 1)])
        assert [delivery.data for delivery in received(ends[1], 2)] == [b"1", b"1"]
        assert [delivery.data for delivery in received(ends[2], 1)] == [b"2"]
        assert [delivery.data for delivery in received(ends[3], 1)] == [b"3"]

    def test_more_messages_than_a_batch_holds_all_arrive(self, gang: Gang) -> None:
        a, b = gang(2)
        bodies = {f"{i:03}".encode() * 40 for i in range(37)}
        a.send(PLACE, [(1, body) for body in bodies])
        assert {delivery.data for delivery in received(b, len(bodies))} == bodies

    def test_the_longest_message_fits(self, gang: Gang) -> None:
        a, b = gang(2)
        data = os.urandom(a.max_message_bytes)
        a.send(PLACE, [(1, data), (1, b"short")])
        assert {delivery.data for delivery in received(b, 2)} == {data, b"short"}

    def test_a_message_that_is_not_acknowledged_comes_again(self, gang: Gang) -> None:
        a, b = gang(2)
        a.send(PLACE, [(1, b"once")])
        (first,) = b.receive(FROM_0, 5)
        until = time.monotonic() + 15
        again: list[Delivery] = []
        while not again and time.monotonic() < until:
            again = b.receive(FROM_0, 1)
        assert [delivery.data for delivery in again] == [first.data]
        b.acknowledge(again)
        b.close()
        b.close()

    def test_an_acknowledged_message_does_not_come_again(self, gang: Gang) -> None:
        a, b = gang(2)
        a.send(PLACE, [(1, b"once")])
        assert len(received(b, 1)) == 1
        assert received(b, 1, seconds=1) == []

    def test_waiting_ends_when_a_message_comes_and_not_long_after(self, gang: Gang) -> None:
        a, b = gang(2)
        threading.Timer(0.3, lambda: a.send(PLACE, [(1, b"late")])).start()
        began = time.monotonic()
        assert [delivery.data for delivery in b.receive(FROM_0, 5)] == [b"late"]
        assert 0.2 < time.monotonic() - began < 3

    def test_nothing_comes_of_waiting_in_vain(self, gang: Gang) -> None:
        (_, b) = gang(2)
        began = time.monotonic()
        assert b.receive(FROM_0, 1) == []
        assert 0.5 < time.monotonic() - began < 4

    def test_a_letter_many_times_the_longest_message_and_an_empty_one(self, gang: Gang) -> None:
        a, b, c = gang(3)
        long = os.urandom(5 * a.max_message_bytes + 7)
        posted(mailbox(a, 0), 3, 0, {1: long, 2: long[::-1]})
        posted(mailbox(a, 0), 4, 0, {1: b"", 2: b"short"})
        box = mailbox(b, 1)
        assert box.collect(3, 0, [0]) == {0: long}
        assert box.collect(4, 0, [0]) == {0: b""}
        box = mailbox(c, 2)
        assert box.collect(4, 0, [0]) == {0: b"short"}
        assert box.collect(3, 0, [0]) == {0: long[::-1]}

    def test_an_early_letter_is_kept(self, gang: Gang) -> None:
        a, b, c = gang(3)
        posted(mailbox(a, 0), 9, 0, {2: b"early"})
        posted(mailbox(b, 1), 1, 0, {2: b"now"})
        box = mailbox(c, 2)
        assert box.collect(1, 0, [1]) == {1: b"now"}
        assert box.collect(9, 0, [0]) == {0: b"early"}

    def test_a_letter_sent_twice_is_had_once(self, gang: Gang) -> None:
        a, b = gang(2)
        for _ in range(2):
            posted(mailbox(a, 0), 1, 0, {1: b"again"})
        posted(mailbox(a, 0), 2, 0, {1: b"then"})
        box = mailbox(b, 1)
        assert box.collect(1, 0, [0]) == {0: b"again"}
        assert box.collect(2, 0, [0]) == {0: b"then"}

    def test_other_runs_and_attempts_are_ignored(self, gang: Gang) -> None:
        a, b = gang(2)
        posted(mailbox(a, 0, run="another"), 1, 0, {1: b"foreign"})
        posted(mailbox(a, 0, attempt=1), 1, 0, {1: b"stale"})
        posted(mailbox(a, 0, attempt=2), 1, 0, {1: b"mine"})
        assert mailbox(b, 1, attempt=2).collect(1, 0, [0]) == {0: b"mine"}

    def test_what_is_lost_is_missed_by_the_deadline(self, gang: Gang) -> None:
        (_, b) = gang(2)
        with pytest.raises(DeadlineExceeded, match="worker 0"):
            mailbox(b, 1, seconds=1).collect(1, 0, [0])

    def test_an_abort_ends_the_wait(self, gang: Gang) -> None:
        (_, b) = gang(2)
        began = time.monotonic()
        with pytest.raises(RunAborted):
            mailbox(b, 1, aborted=lambda: time.monotonic() - began > 1).collect(1, 0, [0])
        assert time.monotonic() - began < 1 + LOOK_EVERY_S + 1.5

    def test_a_barrier_opens_when_all_have_come(self, gang: Gang) -> None:
        ends = gang(3)
        came: list[float] = []

        def come(worker: int, after_s: float) -> float:
            time.sleep(after_s)
            came.append(time.monotonic())
            mailbox(ends[worker], worker).barrier(3, Deadline.after(20))
            return time.monotonic()

        waits = (0.0, 0.6, 0.2)
        left = at_once([partial(come, worker, after_s) for worker, after_s in enumerate(waits)])
        moments = [moment for moment in left if isinstance(moment, float)]
        assert len(moments) == 3, left
        assert min(moments) >= max(came)

    def test_after_a_barrier_letters_are_had_also_those_that_overtook_it(self, gang: Gang) -> None:
        a, b = gang(2)

        def first() -> object:
            box = mailbox(a, 0)
            box.barrier(2, Deadline.after(20))
            return box.collect(1, 0, [1])

        def second() -> object:
            box = mailbox(b, 1)
            box.post(1, 0, {0: b"early"})
            box.barrier(2, Deadline.after(20))
            return None

        assert at_once([first, second]) == [{1: b"early"}, None]

    def test_a_barrier_tells_everyone_who_is_missing(self, gang: Gang) -> None:
        ends = gang(4)
        until = Deadline.after(3)
        late = at_once(
            [partial(mailbox(ends[worker], worker).barrier, 4, until) for worker in (0, 2)]
        ) + at_once([partial(mailbox(ends[3], 3).barrier, 4, until)])
        assert [type(error) for error in late] == [DeadlineExceeded] * 3
        assert all("waited in vain for worker 1, 3 to begin" in str(error) for error in late)

    def test_a_barrier_without_the_first_worker_ends_too(
        self, gang: Gang, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("lamella.mailbox.ANSWER_S", 0.5)
        (_, b) = gang(2)
        with pytest.raises(DeadlineExceeded, match="worker 0 to begin"):
            mailbox(b, 1).barrier(2, Deadline.after(0.5))

    def test_an_abort_ends_a_barrier(self, gang: Gang) -> None:
        ends = gang(3)
        began = time.monotonic()
        boxes = [
            mailbox(ends[worker], worker, aborted=lambda: time.monotonic() - began > 1) for worker in (0, 1)
        ]
        outcomes = at_once([partial(box.barrier, 3, Deadline.after(20)) for box in boxes])
        assert [type(error) for error in outcomes] == [RunAborted] * 2
        assert time.monotonic() - began < 1 + LOOK_EVERY_S + 1.5

    def test_one_worker_alone_does_not_wait(self, gang: Gang) -> None:
        (a,) = gang(1)
        box = mailbox(a, 0)
        box.barrier(1, Deadline.after(-1))
        assert box.reduce((0, 2), 1, b"own", lambda one, other: one + other) == b"own"

    def test_a_reduce_combines_in_the_order_of_the_workers(self, gang: Gang) -> None:
        ends = gang(3)
        outcomes = at_once(
            [
                partial(
                    mailbox(ends[worker], worker).reduce,
                    (0, 2),
                    3,
                    b"%d" % worker,
                    lambda one, other: one + other,
                )
                for worker in (2, 0, 1)
            ]
        )
        assert outcomes == [None, b"012", None]

    def test_letters_of_one_worker_arrive_while_it_posts_more(self, gang: Gang) -> None:
        a, b = gang(2)
        letters = {layer: os.urandom(100 * layer) for layer in range(1, 20)}
        with mailbox(a, 0) as sender, mailbox(b, 1) as box:
            for layer, letter in letters.items():
                sender.post(layer, 0, {1: letter})
            got = {layer: box.collect(layer, 0, [0])[0] for layer in sorted(letters, reverse=True)}
        assert got == letters

    def test_a_busy_service_is_asked_again(self, gang: Gang, service: Service) -> None:
        a, b = gang(2)
        service.be_busy(2)
        with mailbox(a, 0) as sender, mailbox(b, 1) as box:
            sender.post(1, 0, {1: b"patience"})
            assert box.collect(1, 0, [0]) == {0: b"patience"}
        service.check_struck()

    def test_what_is_refused_of_a_batch_is_sent_again(self, gang: Gang, service: Service) -> None:
        a, b = gang(2)
        service.refuse_entries(2)
        bodies = {b"%d" % i for i in range(5)}
        a.send(PLACE, [(1, body) for body in bodies])
        assert {delivery.data for delivery in received(b, len(bodies))} == bodies
        service.check_struck("sns", "sqs")

    def test_what_arrived_though_the_answer_did_not_is_had_once(self, gang: Gang, service: Service) -> None:
        a, b = gang(2)
        service.lose_answers(1)
        with mailbox(a, 0) as sender:
            sender.post(1, 0, {1: b"one"})
            sender.post(2, 0, {1: b"two"})
        with mailbox(b, 1) as box:
            assert box.collect(1, 0, [0]) == {0: b"one"}
            assert box.collect(2, 0, [0]) == {0: b"two"}
        service.check_struck()

    def test_what_the_service_repeats_and_puts_in_disorder_is_had_once_and_in_order(
        self, gang: Gang, service: Service
    ) -> None:
        a, b = gang(2)
        service.repeat_itself()
        service.be_out_of_order()
        with mailbox(a, 0) as sender, mailbox(b, 1) as box:
            for layer in range(1, 8):
                sender.post(layer, 0, {1: b"%d" % layer})
            for layer in range(1, 8):
                assert box.collect(layer, 0, [0]) == {0: b"%d" % layer}
        service.check_struck()

    def test_a_post_that_is_refused_ends_the_wait_that_follows(self, gang: Gang, service: Service) -> None:
        (a, b) = gang(2)
        service.deny_sending()
        box = mailbox(a, 0, seconds=3)
        box.post(1, 0, {1: b"no"})
        if service.can_refuse:
            with pytest.raises(CloudError):
                box.collect(1, 0, [1])
            with pytest.raises(CloudError):
                box.post(2, 0, {1: b"no"})
            with pytest.raises(CloudError):
                box.flush()
            assert b.receive([], 0) == []
        box.abort()
        service.check_struck()

    def test_whoever_gives_up_leaves_at_once_and_may_do_so_again(self, gang: Gang) -> None:
        a, b = gang(2)
        a.send(PLACE, [(1, b"x")])
        box = mailbox(b, 1)
        assert b.receive(FROM_0, 5)
        began = time.monotonic()
        for _ in range(2):
            box.abort()
        a.abort()
        a.close()
        box.close()
        assert time.monotonic() - began < 1

    def test_the_price_is_what_is_counted(
        self, gang: Gang, service: Service, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("lamella.channels.queue_end.DELETE_WITHIN_S", 60)
        ends = gang(4)
        sizes = {1: 100, 2: 70_000, 3: 300_000, 4: 0, 5: 60_000}
        sends = [
            Send(worker, (layer, 0), {peer: size + peer for peer in range(4) if peer != worker})
            for worker in range(4)
            for layer, size in sizes.items()
        ]
        service.meter.take()
        boxes = [mailbox(end, worker) for worker, end in enumerate(ends)]
        for send in sends:
            letters = {peer: bytes(size) for peer, size in send.letters.items()}
            boxes[send.sender].post(*send.place, letters)
        for box in boxes:
            box.flush()
        for worker, box in enumerate(boxes):
            for layer in sizes:
                box.collect(layer, 0, [peer for peer in range(4) if peer != worker])
        for box in boxes:
            box.close()
        counted = service.meter.usage()
        priced = PRICES[ends[0].kind](sends)
        assert {name: counted.count(name) for name in PRICED} == {name: priced.count(name) for name in PRICED}
        assert counted.counts.keys() == priced.counts.keys()
        assert counted.count("s3.get_object").calls <= priced.count("s3.get_object").calls
        assert counted.count("sqs.receive_message").bytes == priced.count("sqs.receive_message").bytes
        times = load_profile().channel(ends[0].kind)
        assert (times is None) == (ends[0].kind == "memory")

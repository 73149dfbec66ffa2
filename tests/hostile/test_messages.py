"""Forged messages: whoever could write to a queue or the bucket gives a worker nothing but one error."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import pytest

from lamella.activations import Activations
from lamella.channels import Source
from lamella.channels.object_format import find, to_object
from lamella.channels.objects import Objects
from lamella.codec import decode, encode, most_encoded_bytes
from lamella.errors import DeadlineExceeded, MessageError, RunAborted
from lamella.expected import WORD_BYTES, expected_letters
from lamella.letters import COMING, GOING
from lamella.mailbox import Mailbox
from lamella.messages import Message, parse_message, run_digest
from lamella.plan import LayerPart, Link, Step, Task
from lamella.storage import Bucket
from tests.hostile.outcome import outcome_of
from tests.hostile.readers import read_message
from tests.unit.core.test_mailbox import Script, mailbox

MIB = 1 << 20
RUN = run_digest("run")


def forged(**changed: Any) -> bytes:
    """A message whose checksum is right."""
    fields: dict[str, Any] = {
        "run": RUN, "attempt": 1, "layer": 1, "first_sample": 0, "source": 1, "chunk": 0, "chunks": 1
    }  # fmt: skip
    return Message(**{**fields, "payload": b"x", **changed}).to_bytes()


def bounded(arriving: list[bytes], expected: Mapping[Source, int]) -> Mailbox:
    return mailbox(Script(arriving), expected=expected)


EXPECTED: dict[Source, int] = {((1, 0), 1): 100}


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (forged(layer=4_000_000_000), "worker 1's for layer 4000000000, .*nothing waits for that"),
        (forged(first_sample=7), "samples from 7, and nothing waits for that"),
        (forged(source=65_000), "worker 65000's for layer 1, .*nothing waits for that"),
        (forged(layer=0, source=9), "nothing waits for that"),
        (forged(payload=bytes(101)), "has 101 bytes"),
        (forged(chunks=65_535, payload=bytes(101)), "has 101 bytes"),
        (forged(chunks=0), "points elsewhere, and has a payload"),
        (forged(chunk=3, chunks=2), "chunk 3 of 2"),
        (forged()[:-1] + b"y", "checksum differs"),
        (forged(chunk=65_535, chunks=65_535), "chunk 65535 of 65535"),
        (forged(chunks=0, payload=b""), "this channel has none"),
    ],
)
def test_a_forged_message_of_this_run_is_one_error(message: bytes, says: str) -> None:
    with pytest.raises(MessageError, match=says), bounded([message], EXPECTED) as box:
        box.collect(1, 0, [1])


@pytest.mark.parametrize(
    "message",
    [
        forged(run=run_digest("another")),
        forged(run=bytes(8)),
        forged(attempt=0),
        b"",
        b"LML1",
        b"LML1" + b"\xff" * 100,
        b"\xff" * 300_000,
    ],
)
def test_what_is_not_of_this_run_or_attempt_is_dropped(message: bytes) -> None:
    with pytest.raises(DeadlineExceeded), bounded([message] * 5, EXPECTED) as box:
        box.collect(1, 0, [1])
    with bounded([message, forged(payload=b"sound"), message], EXPECTED) as box:
        assert box.collect(1, 0, [1]) == {1: b"sound"}


def test_a_later_attempt_ends_this_one() -> None:
    with pytest.raises(RunAborted), bounded([forged(attempt=2)], EXPECTED) as box:
        box.collect(1, 0, [1])


def test_chunks_together_are_bounded_too() -> None:
    chunks = [forged(chunk=k, chunks=1000, payload=bytes(60)) for k in range(2)]
    with pytest.raises(MessageError, match="has 120 bytes"), bounded(chunks, EXPECTED) as box:
        box.collect(1, 0, [1])


def test_early_letters_take_no_more_than_those_that_a_task_waits_for() -> None:
    """Stated: all that a worker keeps of what comes is the sum of the most bytes of its task's letters."""
    part = LayerPart(1, (0, 4), (0, 4), "")
    rows = np.arange(3)
    step = Step((part,), (10, 20), receive=(Link(2, rows),), send=(Link(3, rows),))
    expected = expected_letters(Task(0, (10, 20), None, (step,), (0, 4)), 3)
    assert expected == {
        (GOING, 0): WORD_BYTES,
        (COMING, 0): WORD_BYTES,
        (COMING, 1): WORD_BYTES,
        (COMING, 2): WORD_BYTES,
        ((1, 10), 2): most_encoded_bytes(3, 10),
    }


@pytest.mark.parametrize("alive", [0.0, 0.3, 1.0])
def test_no_message_is_longer_than_is_expected(alive: float) -> None:
    draw = np.random.default_rng(0)
    values = draw.standard_normal((40, 100)).astype(np.float32) * (draw.random(100) < alive)
    for each in (values, draw.integers(0, 2**32, (40, 100)).astype(np.uint32).view(np.float32)):
        data = encode(Activations(np.arange(100), np.ascontiguousarray(each)), (0, 100))
        assert len(data) <= most_encoded_bytes(40, 100)


# ---- objects ----


class OneObject:
    """An S3 client that has one object, and counts what is read of it."""

    def __init__(self, data: bytes) -> None:
        self.data, self.read_bytes = data, 0


class Shelf(Bucket):
    def read(self, path: str, start: int = 0, stop: int | None = None) -> bytes:
        data = cast(OneObject, self.client).data[start:stop]
        cast(OneObject, self.client).read_bytes += len(data)
        return data


def index(*entries: tuple[int, int, int], count: int | None = None, body: bytes = bytes(200)) -> bytes:
    head = struct.pack("<4sI", b"LMO1", len(entries) if count is None else count)
    return head + b"".join(struct.pack("<3q", *entry) for entry in entries) + body


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"LMO1",
        b"LMO1\xff\xff\xff\xff",
        index(count=2**32 - 1),
        index((0, 32, 2**62)),
        index((0, -8, 100)),
        index((0, 100, 40)),
        index((0, 0, 8)),
        index((1, 32, 40)),
        index((0, 56, 60), (0, 100, 110)),
        index((0, 32, 232), body=b"LML1" + bytes(196)),
        to_object([(1, b"for another")]),
    ],
)
def test_an_object_that_lies_is_one_error(data: bytes) -> None:
    expected = {((1, 0), 1): 100}
    shelf = Shelf(cast(Any, OneObject(data)), "bucket")
    objects = Objects(shelf, 0, expected)
    with pytest.raises(MessageError):
        objects.read_all([((1, 0), 1)])
    objects.close()
    assert cast(OneObject, shelf.client).read_bytes <= 64 << 10


def test_an_index_is_read_no_further_than_its_head() -> None:
    with pytest.raises(MessageError, match="ends before its index does"):
        find(index(count=2**31), 0, "here")


# ---- what a message says ----


def test_a_message_of_another_shape_is_one_error() -> None:
    data = encode(Activations(np.arange(5), np.ones((3, 5), np.float32)), (0, 8))
    for rows, samples in ((4, 8), (3, 9), (2**31, 8), (3, 2**31), (0, 0)):
        with pytest.raises(MessageError, match="came instead of"):
            decode(data, rows, (0, samples))


def test_a_bomb_in_a_message_is_inflated_no_further_than_expected() -> None:
    """Stated: 16 bytes for each row of each sample, 64 for each sample, and 16 MiB."""
    stream = zlib.compressobj(1, zlib.DEFLATED, -15)
    bomb = stream.compress(bytes(128 * MIB)) + stream.flush()
    rows, samples = 64, 256
    length = bytearray()
    left = len(bomb)
    while left > 0x7F:
        length.append(left & 0x7F | 0x80)
        left >>= 7
    length.append(left)
    # All samples are alive, no rows are alike, cells as they are: then the section.
    data = b"LA2" + bytes([rows, 0x80, 2, 0, 0, 0]) + bytes(length) + bomb
    outcome = outcome_of(read_message, data, rows, samples)
    assert "MessageError" in outcome.kinds, outcome.message
    assert "don't inflate to the" in outcome.message
    assert outcome.grown_bytes < 16 * rows * samples + 64 * samples + 16 * MIB


def test_a_flipped_bit_anywhere_is_found() -> None:
    data = bytearray(forged(payload=b"payload"))
    for place in range(8 * len(data)):
        data[place // 8] ^= 1 << place % 8
        with pytest.raises(MessageError):
            parse_message(bytes(data))
        data[place // 8] ^= 1 << place % 8

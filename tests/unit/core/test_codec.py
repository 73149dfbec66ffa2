"""Activations survive the codec bit for bit; anything else is refused within bounds."""

from __future__ import annotations

import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from lamella.activations import Activations
from lamella.codec import Base, Bases, decode, encode
from lamella.codec.sections import Reader, Writer
from lamella.errors import MessageError
from lamella.plan import Link, Range

LAYER = 7
MINUS_ZERO, DENORMAL, SIGNALLING_NAN, OTHER_NAN = 0x80000000, 1, 0x7F800001, 0xFFC0BEEF
WORDS = {
    "any": st.integers(0, 2**32 - 1),
    "odd": st.sampled_from([0, MINUS_ZERO, DENORMAL, SIGNALLING_NAN, OTHER_NAN, 0x7F800000]),
    "few": st.sampled_from([0, 0x3D800000, 0x3FC00000, 0x42000000]),
    "constant": st.just(0x42000000),
}


@st.composite
def blocks(draw: st.DrawFn) -> tuple[Activations, Range]:
    rows, count = draw(st.integers(0, 6)), draw(st.integers(1, 40))
    start = draw(st.integers(0, 1000))
    words = WORDS[draw(st.sampled_from(sorted(WORDS)))]
    dense = draw(arrays(np.uint32, (rows, count), elements=words, fill=st.just(0)))
    if rows and draw(st.booleans()):
        dense = dense[draw(arrays(np.int64, draw(st.integers(1, 9)), elements=st.integers(0, rows - 1)))]
    live = np.flatnonzero(draw(arrays(np.bool_, count)))
    values = np.ascontiguousarray(dense[:, live]).view(np.float32)
    return Activations(live + start, values), (start, start + count)


@st.composite
def blocks_with_base(draw: st.DrawFn) -> tuple[Activations, Range, Base | None]:
    block, samples = draw(blocks())
    if draw(st.booleans()):
        return block, samples, None
    near = draw(st.booleans())  # to what is live: what a layer leaves is mostly that of the one before
    change = draw(arrays(np.bool_, samples[1] - samples[0], elements=st.booleans(), fill=st.just(False)))
    live = change.copy()
    if near:
        live[block.without_dead().live - samples[0]] ^= True
    return block, samples, Base.of(LAYER, np.flatnonzero(live) + samples[0], samples)


def dense_of(block: Activations, samples: Range) -> bytes:
    out = np.zeros((len(block.values), samples[1] - samples[0]), np.uint32)
    out[:, block.live - samples[0]] = block.values.view(np.uint32)
    return out.tobytes()


@given(blocks_with_base())
def test_what_is_decoded_is_what_was_encoded_to_the_bit(case: tuple[Activations, Range, Base | None]) -> None:
    block, samples, base = case
    back = decode(encode(block, samples, base), len(block.values), samples, base)
    assert dense_of(back, samples) == dense_of(block, samples)
    assert back.live.tolist() == block.without_dead().live.tolist()


@given(blocks_with_base())
def test_the_same_activations_always_give_the_same_bytes(
    case: tuple[Activations, Range, Base | None],
) -> None:
    block, samples, base = case
    again = Activations(block.live.copy(), np.asfortranarray(block.values.copy()))
    assert encode(block, samples, base) == encode(again, samples, base)


@pytest.mark.parametrize("word", [MINUS_ZERO, DENORMAL, SIGNALLING_NAN, OTHER_NAN])
def test_a_sample_of_no_ordinary_number_is_alive(word: int) -> None:
    values = np.zeros((2, 3), np.uint32)
    values[1, 2] = word
    back = decode(encode(Activations(np.arange(3), values.view(np.float32)), (0, 3)), 2, (0, 3))
    assert back.live.tolist() == [2]
    assert back.values.view(np.uint32).tolist() == [[0], [word]]


@pytest.mark.parametrize("rows", [1, 24])
@pytest.mark.parametrize("kinds", [2, 200, 3000, 10**9])
@pytest.mark.parametrize("alive", [0.02, 0.5, 0.98])
def test_blocks_large_enough_for_every_way_to_write_them(rows: int, kinds: int, alive: float) -> None:
    random = np.random.default_rng(kinds)
    live = np.flatnonzero(random.random(3000) < alive)
    numbers = random.integers(0, 2**32, kinds if kinds < 10**9 else rows * len(live), dtype=np.uint32)
    values = random.choice(numbers, (rows, len(live))) * (random.random((rows, len(live))) < 0.8)
    values = np.concatenate([values, values[::2]]).astype(np.uint32)
    block, base = Activations(live, values.view(np.float32)), Base.of(3, live[::2], (0, 3000))
    for over in (None, base):
        back = decode(encode(block, (0, 3000), over), len(values), (0, 3000), over)
        assert dense_of(back, (0, 3000)) == dense_of(block, (0, 3000))


def flawed(good: bytes, data: st.DataObject) -> bytes:
    bad = bytearray(good)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(bad) - 1))
        bad[at] ^= data.draw(st.integers(1, 255))
    return bytes(bad[: data.draw(st.integers(0, len(bad)))] if data.draw(st.booleans()) else bad)


@given(blocks_with_base(), st.data())
def test_damaged_bytes_are_refused_or_decode_to_the_same_shape(
    case: tuple[Activations, Range, Base | None], data: st.DataObject
) -> None:
    block, samples, base = case
    try:
        back = decode(flawed(encode(block, samples, base), data), len(block.values), samples, base)
    except MessageError:
        return
    assert back.values.shape == (len(block.values), len(back.live))
    assert (np.diff(back.live) > 0).all()
    assert not len(back.live) or (samples[0] <= back.live[0] and back.live[-1] < samples[1])


@given(st.binary(max_size=200), st.integers(0, 5), st.integers(1, 50))
def test_arbitrary_bytes_give_nothing_but_a_message_error(data: bytes, rows: int, count: int) -> None:
    with pytest.raises(MessageError):
        decode(data, rows, (0, count))


@given(st.binary(max_size=200), st.integers(0, 5), st.integers(1, 50), st.booleans())
def test_nor_do_those_that_begin_well(data: bytes, rows: int, count: int, has_base: bool) -> None:
    base = Base.of(LAYER, np.arange(0, count, 3), (0, count)) if has_base else None
    begun = Writer()
    begun.raw(b"LA2")
    begun.number(rows)
    begun.number(count)
    begun.raw(data)
    try:
        back = decode(begun.to_bytes(), rows, (0, count), base)
    except MessageError:
        return
    assert back.values.shape == (rows, len(back.live))


def test_a_cut_message_is_refused() -> None:
    good = encode(Activations(np.arange(3), np.ones((2, 3), np.float32)), (0, 9))
    for length in range(len(good)):
        with pytest.raises(MessageError):
            decode(good[:length], 2, (0, 9))


def test_another_shape_is_refused() -> None:
    good = encode(Activations(np.arange(3), np.ones((2, 3), np.float32)), (0, 9))
    for rows, count in ((1, 9), (3, 9), (2, 8), (2, 10)):
        with pytest.raises(MessageError, match="came instead of"):
            decode(good, rows, (0, count))


def test_a_change_against_another_base_is_refused() -> None:
    samples = (100, 1100)
    live = np.arange(*samples, 3)
    block = Activations(live, np.ones((2, len(live)), np.float32))
    for others in (live, live[1:]):
        good = encode(block, samples, Base.of(5, others, samples))
        with pytest.raises(MessageError, match=r"layer 5.*none"):
            decode(good, 2, samples)
        with pytest.raises(MessageError, match=r"layer 5.*layer 6"):
            decode(good, 2, samples, Base.of(6, others, samples))
        with pytest.raises(MessageError, match="layer 5"):
            decode(good, 2, samples, Base.of(5, others, (100, 900 + len(others))))


def peak_bytes(data: bytes, rows: int, count: int) -> int:
    tracemalloc.start()
    try:
        decode(data, rows, (0, count), Base.of(LAYER, np.arange(0, count, 2), (0, count)))
    except MessageError:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return peak


def stated_bound(rows: int, count: int) -> int:
    return 16 * rows * count + 64 * count + (16 << 20)


def begun(rows: int, count: int) -> Writer:
    writer = Writer()
    writer.raw(b"LA2")
    writer.number(rows)
    writer.number(count)
    return writer


def bomb(writer: Writer) -> bytes:
    """What inflates to 256 MiB, where a section should be."""
    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    body = b"".join([*(stream.compress(bytes(1 << 26)) for _ in range(4)), stream.flush()])
    writer.number(len(body))
    writer.raw(body)
    return writer.to_bytes()


def test_a_bomb_is_not_inflated_beyond_what_was_expected() -> None:
    for flags in ([3], [0, 0, 0], [0, 0, 4]):  # in place of the live samples, the values, the cells
        writer = begun(2, 900)
        writer.raw(bytes(flags))
        data = bomb(writer)
        with pytest.raises(MessageError, match="inflate"):
            decode(data, 2, (0, 900))
        assert peak_bytes(data, 2, 900) < stated_bound(2, 900)


@pytest.mark.parametrize("kinds", [1, 2, 300, 10**9])
@pytest.mark.parametrize("order", [1, -1])
def test_memory_stays_within_the_stated_bound(kinds: int, order: int) -> None:
    random = np.random.default_rng(0)
    values = random.integers(0, kinds, (400, 8000), dtype=np.uint32)[:, ::order]
    block = Activations(np.arange(8000), np.ascontiguousarray(values).view(np.float32))
    base = Base.of(LAYER, np.arange(0, 8000, 2), (0, 8000))
    assert peak_bytes(encode(block, (0, 8000), base), 400, 8000) < stated_bound(400, 8000)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ([32, 0], "no base"),
        ([1, 4, 0, 0, 0, 9, 9], "not"),  # lists a sample beyond the last
        ([1, 9], "9 samples of 4"),
        ([1 | 3 << 2, 1, 0, 9], "no known way"),
        ([0, 3, 0, 0, 0], "different rows"),
        ([0, 3, 2, 0, 0, 5], "row that there is not"),
        ([0, 8], "rows of no known kind"),
        ([0, 0, 3], "values of no known kind"),
        ([0, 1, 2, 0], "table of 0"),
        ([0, 1, 2, 1, 0, 9, 0, 0, 0, 0, 0, 0, 7, 0], "beyond their table"),
        ([0, 1, 1, 0, 9, 0, 0, 0, 1], "after their end"),
        ([0, 1, 1, 1], "inflate|cut short"),
        ([0, 128, 128, 128, 128, 128], "too large"),
    ],
)
def test_contradictions_are_told(wrong: list[int], says: str) -> None:
    writer = begun(2, 4)
    writer.raw(bytes(wrong))
    with pytest.raises(MessageError, match=says):
        decode(writer.to_bytes(), 2, (0, 4))


@given(st.lists(st.integers(0, 2**32 - 1)))
def test_numbers_are_read_back(numbers: list[int]) -> None:
    writer = Writer()
    for number in numbers:
        writer.number(number)
    reader = Reader(writer.to_bytes())
    assert [reader.number() for _ in numbers] == numbers
    reader.end()


def test_dead_samples_cost_nothing() -> None:
    values = np.zeros((128, 10_000), np.float32)
    values[:, 17] = 32
    assert len(encode(Activations(np.arange(10_000), values), (0, 10_000))) < 30


def test_the_same_samples_as_before_cost_nothing() -> None:
    live = np.flatnonzero(np.random.default_rng(0).random(10_000) < 0.03)
    block = Activations(live, np.full((17, len(live)), 32, np.float32))
    assert len(encode(block, (0, 10_000))) > 200
    assert len(encode(block, (0, 10_000), Base.of(3, live, (0, 10_000)))) < 20


def test_a_few_that_died_or_came_alive_cost_little() -> None:
    random = np.random.default_rng(0)
    before = np.flatnonzero(random.random(10_000) < 0.5)
    live = np.union1d(np.delete(before, [5, 700, 4000]), np.setdiff1d(np.arange(10_000), before)[[3, 99]])
    block = Activations(live, np.full((17, len(live)), 32, np.float32))
    samples = (0, 10_000)
    assert len(encode(block, samples, Base.of(3, before, samples))) < 40


def test_a_base_that_has_nothing_in_common_costs_nothing() -> None:
    random = np.random.default_rng(0)
    samples = (0, 10_000)
    live = np.flatnonzero(random.random(10_000) < 0.03)
    block = Activations(live, np.full((17, len(live)), 32, np.float32))
    other = Base.of(3, np.flatnonzero(random.random(10_000) < 0.9), samples)
    assert len(encode(block, samples, other)) <= len(encode(block, samples))


def random_block(rows: int, count: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal((rows, count), np.float32)


def test_rows_that_are_alike_are_sent_once() -> None:
    values = random_block(4, 500)
    once = len(encode(Activations(np.arange(500), values), (0, 500)))
    for again in (np.repeat(values, 16, axis=0), np.tile(values, (16, 1))):
        assert len(encode(Activations(np.arange(500), again), (0, 500))) < once + 80


def test_values_of_a_few_kinds_are_sent_as_codes() -> None:
    values = np.random.default_rng(0).choice(random_block(1, 16)[0], (20, 1000))
    assert len(encode(Activations(np.arange(1000), values), (0, 1000))) < 20 * 1000 * 0.52


def test_values_of_all_kinds_are_sent_as_they_are() -> None:
    values = random_block(20, 1000)
    size = len(encode(Activations(np.arange(1000), values), (0, 1000)))
    assert values.nbytes * 0.8 < size < values.nbytes


def links(*peers: int) -> list[Link]:
    return [Link(peer, np.arange(2)) for peer in peers]


def test_each_pair_has_its_own_base_for_each_micro_batch() -> None:
    sender, receivers = Bases(), {1: Bases(), 2: Bases()}
    random = np.random.default_rng(0)
    for layer in range(1, 9):
        for samples in ((0, 1000), (1000, 2000)):
            live = np.flatnonzero(random.random(1000) < 1 / layer) + samples[0]
            block = Activations(live, np.ones((2, len(live)), np.float32))
            # A pair that has not talked in each layer goes on from where it was.
            peers = [1, 2] if layer % 3 else [2]
            for peer, data in sender.encode(layer, samples, block, 0, links(*peers)).items():
                back = receivers[peer].decode(layer, samples, 0, data, 2)
                assert back.live.tolist() == live.tolist()
                assert sender.sent[peer, samples].layer == layer
                assert receivers[peer].received[0, samples].layer == layer


def test_who_has_missed_a_message_can_not_decode_the_next() -> None:
    sender, receiver = Bases(), Bases()
    live = np.arange(0, 1000, 3)
    block = Activations(live, np.ones((2, len(live)), np.float32))
    first, second, third = (sender.encode(k, (0, 1000), block, 0, links(1))[1] for k in (1, 2, 3))
    receiver.decode(1, (0, 1000), 0, first, 2)
    with pytest.raises(MessageError, match=r"layer 2.*layer 1"):
        receiver.decode(3, (0, 1000), 0, third, 2)
    assert receiver.decode(2, (0, 1000), 0, second, 2).live.tolist() == live.tolist()
    assert receiver.decode(3, (0, 1000), 0, third, 2).live.tolist() == live.tolist()


def test_rows_are_chosen_from_where_the_block_begins() -> None:
    values = np.arange(1, 13, dtype=np.float32).reshape(4, 3)
    link = Link(5, np.array([11, 13]))
    data = Bases().encode(1, (0, 3), Activations(np.arange(3), values), 10, [link])[5]
    assert decode(data, 2, (0, 3)).values.tolist() == values[[1, 3]].tolist()

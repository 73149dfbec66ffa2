"""Activations survive the codec bit for bit; anything else is refused within bounds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lamella.activations import Activations
from lamella.codec import decode, encode
from lamella.errors import MessageError


@st.composite
def blocks(draw: st.DrawFn) -> tuple[Activations, tuple[int, int]]:
    rows, count = draw(st.integers(0, 6)), draw(st.integers(1, 40))
    start = draw(st.integers(0, 1000))
    kind = draw(st.sampled_from(["any", "few", "constant"]))
    values = {
        "any": st.floats(width=32, allow_nan=False, allow_infinity=False),
        "few": st.sampled_from([0.0, 0.0625, 1.5, 32.0]),
        "constant": st.just(32.0),
    }[kind]
    dense = draw(arrays(np.float32, (rows, count), elements=values, fill=st.just(0.0)))
    live = np.flatnonzero(draw(arrays(np.bool_, count)))
    return Activations(live + start, np.ascontiguousarray(dense[:, live])), (start, start + count)


def dense_of(block: Activations, samples: tuple[int, int]) -> bytes:
    out = np.zeros((len(block.values), samples[1] - samples[0]), np.float32)
    out[:, block.live - samples[0]] = block.values
    return (out + np.float32(0)).tobytes()  # -0 is 0: it can't come of a sum that starts at +0


@given(blocks())
def test_what_is_decoded_is_what_was_encoded(case: tuple[Activations, tuple[int, int]]) -> None:
    block, samples = case
    back = decode(encode(block, samples), len(block.values), samples)
    assert dense_of(back, samples) == dense_of(block, samples)


@given(blocks(), st.data())
def test_damaged_bytes_are_refused_or_decode_to_the_same_shape(
    case: tuple[Activations, tuple[int, int]], data: st.DataObject
) -> None:
    block, samples = case
    good = bytearray(encode(block, samples))
    at = data.draw(st.integers(0, len(good) - 1))
    good[at] ^= data.draw(st.integers(1, 255))
    try:
        back = decode(bytes(good), len(block.values), samples)
    except MessageError:
        return
    assert back.values.shape == (len(block.values), len(back.live))
    assert len(back.live) <= samples[1] - samples[0]


@given(st.binary(max_size=200), st.integers(0, 5), st.integers(1, 50))
def test_arbitrary_bytes_give_nothing_but_a_message_error(data: bytes, rows: int, count: int) -> None:
    with pytest.raises(MessageError):
        decode(data, rows, (0, count))


def test_a_cut_message_is_refused() -> None:
    good = encode(Activations(np.arange(3), np.ones((2, 3), np.float32)), (0, 9))
    for length in range(len(good)):
        with pytest.raises(MessageError):
            decode(good[:length], 2, (0, 9))


def test_a_bomb_is_refused_before_it_is_inflated() -> None:
    import struct
    import zlib

    bomb = zlib.compress(bytes(1 << 26), 9)
    claimed = struct.pack("<2sBBIIIII", b"LA", 1, 1, 9, 3, 2, 6, 60) + bomb
    with pytest.raises(MessageError, match="inflate"):
        decode(claimed, 2, (0, 9))


def test_dead_samples_cost_nothing() -> None:
    values = np.zeros((128, 10_000), np.float32)
    values[:, 17] = 32
    assert len(encode(Activations(np.arange(10_000), values), (0, 10_000))) < 60

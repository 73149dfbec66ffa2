"""What gains nothing is left as it is, and nothing is inflated further than expected."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella.codec.deflate import deflate, inflate
from lamella.errors import MessageError

RANDOM = np.random.default_rng(0)
NOISE = RANDOM.integers(0, 256, 40_000, dtype=np.uint8)
SKEWED = RANDOM.geometric(0.5, 40_000).astype(np.uint8)
PHRASE = np.resize(RANDOM.permutation(np.repeat(np.arange(64, dtype=np.uint8), 4)), 40_000)


@given(st.binary(max_size=9000), st.integers(1, 9))
def test_what_was_deflated_inflates(data: bytes, times: int) -> None:
    whole = np.frombuffer(data * times, np.uint8)
    deflated = deflate(whole)
    if deflated is not None:
        assert len(deflated) < len(whole)
        assert inflate(memoryview(deflated), len(whole)) == whole.tobytes()


@pytest.mark.parametrize("size", [10, 100, 3000, 40_000])
def test_noise_is_left_as_it_is(size: int) -> None:
    assert deflate(NOISE[:size]) is None


@pytest.mark.parametrize("size", [300, 3000, 40_000])
def test_what_some_bytes_are_frequent_in_gets_near_its_entropy(size: int) -> None:
    deflated = deflate(SKEWED[:size])
    assert deflated is not None
    assert len(deflated) < size * 2 / 8 * 1.15 + 30


def test_what_repeats_is_deflated_further() -> None:
    deflated = deflate(PHRASE)
    assert deflated is not None
    assert len(deflated) < len(PHRASE) / 20


def test_another_size_is_refused() -> None:
    deflated = deflate(SKEWED)
    assert deflated is not None
    for size in (len(SKEWED) - 1, len(SKEWED) + 1, 10):
        with pytest.raises(MessageError):
            inflate(memoryview(deflated), size)
    with pytest.raises(MessageError):
        inflate(memoryview(deflated + b"!"), len(SKEWED))
    with pytest.raises(MessageError):
        inflate(memoryview(deflated[:-1]), len(SKEWED))

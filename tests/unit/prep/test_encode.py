from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from model_prep.encode import encode_values, narrow
from tests.unit.prep.stored import same_bits

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
EXACT_IN_HALF = st.floats(width=16, allow_nan=False, allow_infinity=False)


def decoded(values: NDArray[np.float32]) -> NDArray[np.float32]:
    stored, table = encode_values(values)
    if isinstance(stored, float):
        return np.full(len(values), stored, np.float32)
    if table is not None:
        return np.array(table, np.float32)[stored]
    return stored.astype(np.float32)


@given(
    st.one_of(
        st.lists(FLOATS, max_size=50),
        st.lists(EXACT_IN_HALF, min_size=300, max_size=400),
        st.lists(st.sampled_from([0.1, -0.0, 0.0, 1e-45, 2.0]), max_size=400),
    )
)
def test_no_bit_is_lost(given_values: list[float]) -> None:
    values = np.array(given_values, np.float32)
    assert same_bits(decoded(values), values)


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (np.full(1000, 0.1), None),
        (np.tile([0.1, -0.2], 500), np.uint8),
        (np.tile(np.arange(256) / 3, 100), np.uint8),
        (np.tile(np.arange(257) / 3, 100), np.float32),
        (np.tile(np.arange(257) / 4, 100), np.float16),
        # A table would take more than it saves.
        (np.arange(100) / 4, np.float16),
        (np.arange(100) / 3, np.float32),
        # Beyond float16's range, and below it.
        (np.tile([*np.arange(300), 1e6], 100), np.float32),
        (np.tile([*np.arange(300), 1e-9], 100), np.float32),
        # The first few thousand are one value, the rest are not.
        (np.concatenate([np.ones(5000), np.arange(3000) / 3]), np.float32),
    ],
)
def test_the_smallest_exact_form_is_chosen(
    values: NDArray[np.float64], dtype: type[np.generic] | None
) -> None:
    single = values.astype(np.float32)
    stored, _ = encode_values(single)
    assert (None if isinstance(stored, float) else stored.dtype.type) is dtype
    assert same_bits(decoded(single), single)


@pytest.mark.parametrize(
    ("largest", "dtype"),
    [(0, "u1"), (255, "u1"), (256, "<u2"), (65535, "<u2"), (65536, "<u4"), (2**32, "<u8")],
)
def test_whole_numbers_are_narrow_but_not_too_narrow(largest: int, dtype: str) -> None:
    stored = narrow(np.array([0, largest], np.int64), largest)
    assert stored.dtype == np.dtype(dtype)
    assert stored.tolist() == [0, largest]

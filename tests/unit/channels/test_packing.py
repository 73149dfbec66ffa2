"""Every message is sent once, within the limits, and for no more than it must be."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella.channels.packing import BATCH_ENTRIES, in_order, pack
from lamella.usage import billed_requests

KIB = 1 << 10
LIMITS = st.sampled_from([256 * KIB, 1024 * KIB])


def expense(batches: Sequence[Sequence[int]]) -> tuple[int, int]:
    return sum(billed_requests(sum(batch)) for batch in batches), len(batches)


@settings(deadline=None)
@given(st.lists(st.integers(1, 256 * KIB), max_size=40), LIMITS)
def test_every_message_once_within_the_limits_and_no_dearer_than_in_order(
    sizes: list[int], most: int
) -> None:
    numbered = list(enumerate(sizes))
    batches = pack(numbered, lambda message: message[1], most)
    assert sorted(message for batch in batches for message in batch) == numbered
    packed = [[size for _, size in batch] for batch in batches]
    for batch in packed:
        assert 1 <= len(batch) <= BATCH_ENTRIES
        assert sum(batch) <= most
    naive = [[sizes[number] for number in batch.members] for batch in in_order(sizes, most)]
    assert expense(packed) <= expense(naive)


def cheapest(sizes: Sequence[int], most: int) -> int:
    """By trying all ways to part the messages."""
    best = len(sizes) * 10

    def place(number: int, batches: list[int]) -> None:
        nonlocal best
        if number == len(sizes):
            best = min(best, sum(billed_requests(size) for size in batches))
            return
        for i, size in enumerate(batches):
            if size + sizes[number] <= most:
                batches[i] += sizes[number]
                place(number + 1, batches)
                batches[i] -= sizes[number]
        batches.append(sizes[number])
        place(number + 1, batches)
        batches.pop()

    place(0, [])
    return best


@settings(deadline=None)
@given(st.lists(st.integers(1, 200 * KIB), min_size=1, max_size=6))
def test_a_few_messages_cost_at_most_one_unit_more_than_the_cheapest_packing(sizes: list[int]) -> None:
    batches = pack(sizes, lambda size: size, 256 * KIB)
    assert expense(batches)[0] <= cheapest(sizes, 256 * KIB) + 1


@pytest.mark.parametrize(
    ("sizes", "billed", "calls"),
    [
        ([], 0, 0),
        ([5000] * 10, 1, 1),
        ([5000] * 20, 2, 2),
        # In order it would be 4 + 3 units: pairs of the two fill a unit each.
        ([40 * KIB] * 6 + [24 * KIB] * 6, 6, 2),
        # Twelve entries, which no single call takes.
        ([100] * 9 + [64 * KIB - 900] + [100] * 2, 2, 2),
    ],
)
def test_packings_that_are_known(sizes: list[int], billed: int, calls: int) -> None:
    assert expense(pack(sizes, lambda size: size, 256 * KIB)) == (billed, calls)

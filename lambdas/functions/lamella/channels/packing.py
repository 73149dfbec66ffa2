"""Which messages go together in a batch call: pure arithmetic over their sizes.

A batch is billed by 64 KiB begun of its total, at least one; a service takes ten entries and so many bytes a
call. Which messages share a batch is free, for receivers put them in order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from lamella.usage import BILLED_CHUNK_BYTES, billed_requests

BATCH_ENTRIES = 10  # SNS and SQS quotas

_Message = TypeVar("_Message")


@dataclass
class _Batch:
    """Messages by their number, and their bytes."""

    size_bytes: int = 0
    members: list[int] = field(default_factory=list)

    def add(self, number: int, size_bytes: int) -> None:
        self.members.append(number)
        self.size_bytes += size_bytes

    def take(self, other: _Batch) -> None:
        self.members += other.members
        self.size_bytes += other.size_bytes

    def has_room(self, size_bytes: int, most_bytes: int) -> bool:
        return len(self.members) < BATCH_ENTRIES and self.size_bytes + size_bytes <= most_bytes

    def more_billed(self, size_bytes: int) -> int:
        """What another message adds to what is billed."""
        return billed_requests(self.size_bytes + size_bytes) - billed_requests(self.size_bytes)


def pack(
    messages: Sequence[_Message], size_bytes: Callable[[_Message], int], batch_bytes: int
) -> list[list[_Message]]:
    """Put messages into batches that are billed least, and of those into the fewest.

    The best of a few greedy packings; where one batch holds all, or keeping to the order is best, it is that.

    Parameters
    ----------
    size_bytes
        What the service counts for a message, attributes included.
    batch_bytes
        What it takes in one call; no message is longer.
    """
    sizes = [size_bytes(message) for message in messages]
    best = in_order(sizes, batch_bytes)
    if _expense(best) > _least(sizes):
        best = min((_merged(batches, batch_bytes) for batches in _packings(sizes, batch_bytes)), key=_expense)
    return [[messages[number] for number in batch.members] for batch in best]


def _expense(batches: Sequence[_Batch]) -> tuple[int, int]:
    return sum(billed_requests(batch.size_bytes) for batch in batches), len(batches)


def _least(sizes: Sequence[int]) -> tuple[int, int]:
    """What no packing can be below."""
    calls = -(-len(sizes) // BATCH_ENTRIES)
    return max(calls, billed_requests(sum(sizes))) if sizes else 0, calls


def _packings(sizes: Sequence[int], batch_bytes: int) -> Iterator[list[_Batch]]:
    """Ways to pack; of two that are as good, the earlier is taken."""
    yield in_order(sizes, batch_bytes)
    yield _where_it_adds_least(sizes, batch_bytes)
    # Batches that are just under what is billed.
    for billed in range(1, -(-batch_bytes // BILLED_CHUNK_BYTES)):
        yield _where_there_is_room(sizes, billed * BILLED_CHUNK_BYTES, batch_bytes)


def in_order(sizes: Sequence[int], batch_bytes: int) -> list[_Batch]:
    """As few batches as the messages' order allows."""
    batches: list[_Batch] = []
    for number, size in enumerate(sizes):
        if not batches or not batches[-1].has_room(size, batch_bytes):
            batches.append(_Batch())
        batches[-1].add(number, size)
    return batches


def _merged(batches: Sequence[_Batch], batch_bytes: int) -> list[_Batch]:
    """The same in fewer calls, as far as they go together whole: that is never billed more."""
    merged: list[_Batch] = []
    for batch in sorted(batches, key=lambda batch: -batch.size_bytes):
        for larger in merged:
            entries = len(larger.members) + len(batch.members)
            if entries <= BATCH_ENTRIES and larger.size_bytes + batch.size_bytes <= batch_bytes:
                larger.take(batch)
                break
        else:
            merged.append(batch)
    return merged


def _where_it_adds_least(sizes: Sequence[int], batch_bytes: int) -> list[_Batch]:
    """Largest first, each to the batch to which it adds least that is billed; of those to the fullest."""
    batches: list[_Batch] = []
    for number in _largest_first(sizes):
        size = sizes[number]
        fitting = [batch for batch in batches if batch.has_room(size, batch_bytes)]
        target = min(fitting, key=lambda batch: (batch.more_billed(size), -batch.size_bytes), default=None)
        if target is None or target.more_billed(size) > billed_requests(size):
            target = _Batch()
            batches.append(target)
        target.add(number, size)
    return batches


def _where_there_is_room(sizes: Sequence[int], fill_bytes: int, batch_bytes: int) -> list[_Batch]:
    """Largest first, each to the first batch that it does not bring above ``fill_bytes``."""
    batches: list[_Batch] = []
    for number in _largest_first(sizes):
        size = sizes[number]
        most = min(max(fill_bytes, size), batch_bytes)
        target = next((batch for batch in batches if batch.has_room(size, most)), None)
        if target is None:
            target = _Batch()
            batches.append(target)
        target.add(number, size)
    return batches


def _largest_first(sizes: Sequence[int]) -> list[int]:
    return sorted(range(len(sizes)), key=lambda number: -sizes[number])

"""What a warm worker still has of the blocks that it read before, by their sha256."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass


@dataclass
class _Block:
    data: bytes
    run: int


class BlockCache:
    """Verified blocks of earlier invocations, no more bytes of them than the present one has room for.

    A key is the sha256 of its block, so a block serves every model that has the same bytes, and no other.
    When room is needed, blocks that the present run has not asked for go, the longest unused first; those
    that it has asked for stay. Runs go through a model in one order, again and again: least recently used
    alone would drop each block just before its next use, where a model is a little larger than the cache.

    Not for several threads.
    """

    def __init__(self) -> None:
        self._blocks: OrderedDict[str, _Block] = OrderedDict()
        self._run = 0
        self._room_bytes = 0
        self.held_bytes = 0

    def begin(self, room_bytes: int) -> None:
        """Start a run that leaves ``room_bytes`` to the cache; what is too much is dropped."""
        self._run += 1
        self._room_bytes = room_bytes
        while self.held_bytes > room_bytes:
            self._drop_oldest()

    def get(self, sha256: str) -> bytes | None:
        """The block, if it is still there."""
        block = self._blocks.get(sha256)
        if block is None:
            return None
        block.run = self._run
        self._blocks.move_to_end(sha256)
        return block.data

    def keep(self, sha256: str, data: bytes | memoryview) -> None:
        """Take in a block whose bytes were found to have this hash, as far as there is room."""
        if sha256 in self._blocks or len(data) > self._room_bytes:
            return
        while self.held_bytes + len(data) > self._room_bytes:
            if next(iter(self._blocks.values())).run == self._run:
                return
            self._drop_oldest()
        # A copy: a view would hold all of the read that it is part of.
        self._blocks[sha256] = _Block(bytes(data), self._run)
        self.held_bytes += len(data)

    def _drop_oldest(self) -> None:
        _, block = self._blocks.popitem(last=False)
        self.held_bytes -= len(block.data)

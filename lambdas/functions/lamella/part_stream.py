"""The workers' parts as Collect needs them: by blocks, read ahead by range, several at once, boundedly."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType

from lamella.activations import Activations
from lamella.dealing import Dealing
from lamella.errors import RunError
from lamella.files import Files
from lamella.parts import Block, PartHead, head_bytes, parse_block, parse_head
from lamella.plan import Range
from lamella.records import Share, WorkerReport

READERS = 16
# Of all parts together: what is read at first, with which a small part is there as a whole; and what may be
# read, or being read, ahead of the merge.
FIRST_BYTES = 64 << 20
AHEAD_BYTES = 128 << 20
MOST_READ_BYTES = 8 << 20
LEAST_READ_BYTES = 64 << 10


def read_bytes(total_bytes: int, parts: int) -> int:
    """One part's portion of ``total_bytes``, within what a GET is worth."""
    return min(max(total_bytes // max(parts, 1), LEAST_READ_BYTES), MOST_READ_BYTES)


@dataclass
class _Read:
    """One ranged read of whole blocks, and how many of them are still to be taken."""

    worker: int
    start: int
    stop: int
    blocks: int
    data: Future[bytes] | None = None

    @property
    def size(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class _Part:
    """A part of which the beginning is there."""

    where: str
    head: PartHead
    beginning: bytes


class PartStream:
    """The parts of a run. Use it in a ``with``.

    Blocks are taken in the order of the input's samples, and so each worker's in their own.

    Parameters
    ----------
    path
        Of a worker's part.
    shares
        By worker.
    dealing
        Which samples are at which positions.
    """

    def __init__(
        self, files: Files, path: Callable[[int], str], shares: Sequence[Share], dealing: Dealing
    ) -> None:
        self._files, self._path, self._shares, self._dealing = files, path, shares, dealing
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="parts")
        self._inside_bytes = 0
        self._issued = 0
        self._held: dict[int, tuple[int, Activations]] = {}
        self.most_ahead_bytes = 0
        try:
            self._parts = list(self._readers.map(self._begin, range(len(shares))))
        except BaseException:
            self._readers.shutdown(cancel_futures=True)
            raise
        self._reads: list[_Read] = []
        # Which read, by number, has a block; those that are with their part's beginning are in none.
        self._read_of: dict[tuple[int, int], int] = {}
        self._plan_reads()

    def __enter__(self) -> PartStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._readers.shutdown(cancel_futures=True)

    @property
    def reports(self) -> tuple[WorkerReport, ...]:
        """By worker."""
        return tuple(part.head.report for part in self._parts)

    def pieces(self, samples: Range) -> Iterator[tuple[int, Activations]]:
        """What each worker has of the input's samples ``[start, stop)``: (worker, block).

        Blocks number their samples by position. To be asked for ascending ranges.

        Raises
        ------
        RunError
            If a part is cut short or damaged.
        """
        for worker, share in enumerate(self._shares):
            start, stop = self._dealing.positions(share.samples, samples)
            if start == stop:
                continue
            for number, block in self._overlapping(worker, start, stop):
                decoded = self._block(worker, number, block)
                if block.positions[1] <= stop:
                    del self._held[worker]
                yield worker, decoded.select((start, stop))

    def _overlapping(self, worker: int, start: int, stop: int) -> Iterator[tuple[int, Block]]:
        blocks = self._parts[worker].head.blocks
        if not blocks:
            return
        length = blocks[0].positions[1] - blocks[0].positions[0]
        first = (start - blocks[0].positions[0]) // length
        for number in range(first, len(blocks)):
            if blocks[number].positions[0] >= stop:
                return
            yield number, blocks[number]

    def _begin(self, worker: int) -> _Part:
        """Read a part's head, and as much more of it as fits."""
        path, share, workers = self._path(worker), self._shares[worker], len(self._shares)
        where = self._files.location(path)
        size = read_bytes(FIRST_BYTES, workers)
        try:
            data = self._files.read(path, 0, size)
        except FileNotFoundError as error:
            raise RunError(f"worker {worker} left no part of the output ({error})") from error
        until = head_bytes(data, where)
        if until > len(data):
            data += self._files.read(path, len(data), until)
        head = parse_head(data[:until], share, workers, where)
        return _Part(where, head, data)

    def _plan_reads(self) -> None:
        """Group what is not there yet into reads, in the order in which they are needed first."""
        needed = sorted(
            (self._dealing.sample(block.positions[0]), worker, number)
            for worker, part in enumerate(self._parts)
            for number, block in enumerate(part.head.blocks)
            if block.stop > len(part.beginning)
        )
        most = read_bytes(AHEAD_BYTES // 2, len({worker for _, worker, _ in needed}))
        for _, worker, number in needed:
            if (worker, number) in self._read_of:
                continue
            blocks = self._parts[worker].head.blocks
            stop = number + 1
            while stop < len(blocks) and blocks[stop].stop - blocks[number].start <= most:
                stop += 1
            for each in range(number, stop):
                self._read_of[worker, each] = len(self._reads)
            self._reads.append(_Read(worker, blocks[number].start, blocks[stop - 1].stop, stop - number))

    def _block(self, worker: int, number: int, block: Block) -> Activations:
        held = self._held.get(worker)
        if held is None or held[0] != number:
            held = (number, self._decoded(worker, number, block))
            self._held[worker] = held
        return held[1]

    def _decoded(self, worker: int, number: int, block: Block) -> Activations:
        part, share = self._parts[worker], self._shares[worker]
        place = self._read_of.pop((worker, number), None)
        if place is None:
            return parse_block(part.beginning[block.start : block.stop], block, share, part.where)
        self._issue(place)
        read = self._reads[place]
        assert read.data is not None
        data = read.data.result()[block.start - read.start : block.stop - read.start]
        read.blocks -= 1
        if not read.blocks:
            read.data = None
            self._inside_bytes -= read.size
        self._issue()
        return parse_block(data, block, share, part.where)

    def _issue(self, needed: int = -1) -> None:
        """Start reads as far as there is room, and in any case those up to ``needed``."""
        while self._issued < len(self._reads):
            read = self._reads[self._issued]
            if self._issued > needed and self._inside_bytes + read.size > AHEAD_BYTES:
                return
            read.data = self._readers.submit(self._files.read, self._path(read.worker), read.start, read.stop)
            self._inside_bytes += read.size
            self._issued += 1
            self.most_ahead_bytes = max(self.most_ahead_bytes, self._inside_bytes)

"""A worker's own weights as they arrive: read by range, in parallel, ahead of the computation, and checked.

Memory holds a window of them: a model may be larger than the function.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType

from lamella.block_cache import BlockCache
from lamella.errors import ModelError
from lamella.files import Files
from lamella.manifest import Manifest
from lamella.plan import LayerPart
from lamella.records import WeightUse
from lamella.weights import AnyPart, Piece, decoded, pieces

READERS = 16  # small ranges wait for their first byte, large ones share the function's bandwidth
READ_BYTES = 8 << 20  # one ranged GET; larger ones gain nothing at some 75 MB/s a function
DEFAULT_WINDOW_BYTES = 128 << 20


@dataclass
class _Read:
    """One ranged read; pieces of several arrays and layers may lie in it."""

    file: str
    start: int
    stop: int
    users: int = 1
    data: Future[bytes] | None = None


@dataclass(frozen=True)
class _Span:
    read: _Read
    start: int
    stop: int

    def bytes(self) -> memoryview:
        assert self.read.data is not None
        data = memoryview(self.read.data.result())[self.start - self.read.start : self.stop - self.read.start]
        if len(data) != self.stop - self.start:
            raise ModelError(
                f"{self.read.file} ends before byte {self.stop}: copy or prepare the model again"
            )
        return data


@dataclass
class _Arrival:
    """A part on its way: its spans, in the order of its hash, or its bytes."""

    part: LayerPart
    spans: list[_Span]
    kept: bytes | None
    checked: Future[memoryview] | None = None


class WeightStream(Iterator[AnyPart]):
    """Parts of layers, in their order, several reads ahead. Close it, or use it in a ``with``.

    Parameters
    ----------
    window_bytes
        Bytes read or being read and not yet taken; at least what one part needs is read in any case.
    cache
        Parts it has are not read; parts that are read are given to it.
    """

    def __init__(
        self,
        files: Files,
        manifest: Manifest,
        parts: Sequence[LayerPart],
        window_bytes: int = DEFAULT_WINDOW_BYTES,
        cache: BlockCache | None = None,
    ) -> None:
        self._files, self._manifest, self._cache = files, manifest, cache
        self._window_bytes = window_bytes
        self._reads: deque[_Read] = deque()
        self._arrivals = deque(self._planned(parts))
        self._waiting = deque(arrival for arrival in self._arrivals if arrival.kept is None)
        self._inside_bytes = 0
        self._use = WeightUse()
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="weights")
        # A thread of its own: readers that waited for reads could take all of the readers' threads.
        self._checker = ThreadPoolExecutor(1, thread_name_prefix="weights-check")
        self._advance()

    @property
    def use(self) -> WeightUse:
        """So far."""
        return self._use

    def __next__(self) -> AnyPart:
        """The next part.

        Raises
        ------
        ModelError
            If a file is missing or short, or the part's bytes are not those that its hash was taken of.
        """
        if not self._arrivals:
            raise StopIteration
        self._advance()
        arrival = self._arrivals.popleft()
        part, use = arrival.part, self._use
        if arrival.kept is not None:
            data = memoryview(arrival.kept)
            self._use = WeightUse(use.read_bytes, use.reused_bytes + len(data), use.window_bytes)
        else:
            assert arrival.checked is not None
            try:
                data = arrival.checked.result()
            except FileNotFoundError as error:
                raise ModelError(f"{error}: copy or prepare the model again") from error
            self._use = WeightUse(use.read_bytes + len(data), use.reused_bytes, use.window_bytes)
            if self._cache is not None:
                self._cache.keep(part.sha256, data)
        stored = decoded(self._manifest.layers[part.layer], part, data, self._files.location())
        self._release(arrival)
        self._advance()
        return stored

    def close(self) -> None:
        """Leave; what is still being read is let go."""
        self._readers.shutdown(wait=False, cancel_futures=True)
        self._checker.shutdown(wait=False, cancel_futures=True)
        for queue in (self._arrivals, self._waiting, self._reads):
            queue.clear()

    def __enter__(self) -> WeightStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _planned(self, parts: Sequence[LayerPart]) -> Iterator[_Arrival]:
        for part in parts:
            kept = None if self._cache is None else self._cache.get(part.sha256)
            spans: list[_Span] = []
            if kept is None:
                for piece in pieces(self._manifest.layers[part.layer], part):
                    spans += self._spans(piece)
            yield _Arrival(part, spans, kept)

    def _spans(self, piece: Piece) -> Iterator[_Span]:
        """A piece in one or more reads; the first may be that of the piece before."""
        start = piece.start
        while start < piece.stop:
            last = self._reads[-1] if self._reads else None
            if last and (last.file, last.stop) == (piece.file, start) and start - last.start < READ_BYTES:
                stop = min(piece.stop, last.start + READ_BYTES)
                last.stop = stop
                last.users += 1
            else:
                stop = min(piece.stop, start + READ_BYTES)
                last = _Read(piece.file, start, stop)
                self._reads.append(last)
            yield _Span(last, start, stop)
            start = stop

    def _advance(self) -> None:
        """Begin the reads that the next part needs, and as many more as the window has room for."""
        while self._waiting:
            arrival = self._waiting[0]
            needed = arrival is self._arrivals[0]
            while any(span.read.data is None for span in arrival.spans):
                size = self._reads[0].stop - self._reads[0].start
                if not needed and self._inside_bytes + size > self._window_bytes:
                    return
                self._begin(self._reads.popleft(), size)
            arrival.checked = self._checker.submit(self._check, arrival)
            self._waiting.popleft()

    def _begin(self, read: _Read, size: int) -> None:
        read.data = self._readers.submit(self._files.read, read.file, read.start, read.stop)
        self._inside_bytes += size
        use = self._use
        most = max(use.window_bytes, self._inside_bytes)
        self._use = WeightUse(use.read_bytes, use.reused_bytes, most)

    def _check(self, arrival: _Arrival) -> memoryview:
        part, views = arrival.part, [span.bytes() for span in arrival.spans]
        # Parts of many pieces are few; a part in one piece is not copied.
        data = views[0] if len(views) == 1 else memoryview(b"".join(views))
        if hashlib.sha256(data).hexdigest() != part.sha256:
            raise ModelError(
                f"layer {part.layer}, rows {part.rows[0]} to {part.rows[1]}, of {self._files.location()} are "
                "not the bytes that were prepared (sha256 differs): copy or prepare the model again"
            )
        return data

    def _release(self, arrival: _Arrival) -> None:
        for span in arrival.spans:
            span.read.users -= 1
            if not span.read.users:
                self._inside_bytes -= span.read.stop - span.read.start
                span.read.data = None

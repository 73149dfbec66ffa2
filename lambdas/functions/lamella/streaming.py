"""A worker's own weights as they arrive: read by range, in parallel, ahead of the computation, and checked.

Memory holds a window of them: a model may be larger than the function.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import groupby
from types import TracebackType

from lamella.block_cache import BlockCache
from lamella.deadline import wait_for
from lamella.errors import ModelError
from lamella.files import Files
from lamella.manifest import Layer, Manifest
from lamella.plan import LayerPart
from lamella.records import WeightUse
from lamella.tiles import TileMap, Tiles
from lamella.weights import AnyPart, decoded

# Reads share a function's bandwidth, some 75 MB/s: more or larger ones at a time gain nothing, and what is
# needed first comes later.
READERS = 4
READ_BYTES = 4 << 20
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
    tiles: Tiles
    spans: list[_Span]
    kept: bytes | None = None
    checked: Future[memoryview] | None = None


class WeightStream(Iterator[AnyPart]):
    """Parts of layers, in their order, several reads ahead. Close it, or use it in a ``with``.

    Parameters
    ----------
    window_bytes
        Bytes read or being read and not yet taken; at least what one part needs is read in any case.
    cache
        What it has of a file, if that is all that is wanted of it, is not read; what is read is given to it.
    check
        Called now and then while a part is waited for; what it raises ends the wait.
    """

    def __init__(
        self,
        files: Files,
        manifest: Manifest,
        tiles: TileMap,
        parts: Sequence[LayerPart],
        window_bytes: int = DEFAULT_WINDOW_BYTES,
        cache: BlockCache | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self._files, self._manifest, self._cache = files, manifest, cache
        self._go_on = check
        self._tiles, self._window_bytes = tiles, window_bytes
        self._reads: deque[_Read] = deque()
        self._arrivals = deque(self._planned(parts))
        self._waiting = deque(arrival for arrival in self._arrivals if arrival.kept is None)
        self._inside_bytes = 0
        self._use = WeightUse()
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="weights")
        # A thread of its own: readers that waited for reads could take all of the readers' threads.
        self._checker = ThreadPoolExecutor(1, thread_name_prefix="weights-check")
        self._positions = {
            part.layer: self._readers.submit(self._read_positions, manifest.layers[part.layer])
            for part in parts
            if manifest.layers[part.layer].dense
        }
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
                data = wait_for(arrival.checked, self._go_on)
            except FileNotFoundError as error:
                raise ModelError(f"{error}: copy or prepare the model again") from error
            self._use = WeightUse(use.read_bytes + len(data), use.reused_bytes, use.window_bytes)
            if self._cache is not None:
                self._cache.keep(part.sha256, data)
        layer = self._manifest.layers[part.layer]
        positions = wait_for(self._positions[part.layer], self._go_on) if layer.dense else None
        stored = decoded(layer, part, arrival.tiles, data, positions, self._files.location())
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
        """Parts of the same file are read together, all or none: there, their tiles lie side by side."""
        where = self._files.location()
        for file, group in groupby(parts, key=lambda part: self._manifest.layers[part.layer].file):
            arrivals = [_Arrival(part, self._tiles.of(part, where), []) for part in group]
            if self._cache is not None:
                kept = [self._cache.get(arrival.part.sha256) for arrival in arrivals]
                if None not in kept:
                    yield from (
                        replace(arrival, kept=data) for arrival, data in zip(arrivals, kept, strict=True)
                    )
                    continue
            wanted = sorted(
                (begin, end, number)
                for number, arrival in enumerate(arrivals)
                for begin, end in zip(arrival.tiles.begins, arrival.tiles.ends, strict=True)
            )
            # A part's tiles ascend in its file, so its spans come in the order of its hash.
            for begin, end, number in _joined(wanted):
                arrivals[number].spans += self._spans(file, begin, end)
            yield from arrivals

    def _spans(self, file: str, start: int, stop: int) -> Iterator[_Span]:
        """Bytes in one or more reads; the first may be that of the bytes before."""
        while start < stop:
            last = self._reads[-1] if self._reads else None
            if last and (last.file, last.stop) == (file, start) and start - last.start < READ_BYTES:
                end = min(stop, last.start + READ_BYTES)
                last.stop = end
                last.users += 1
            else:
                end = min(stop, start + READ_BYTES)
                last = _Read(file, start, end)
                self._reads.append(last)
            yield _Span(last, start, end)
            start = end

    def _advance(self) -> None:
        """Begin the reads that the next part needs, and as many more as the window has room for."""
        while self._waiting:
            arrival = self._waiting[0]
            needed = arrival is self._arrivals[0]
            while any(span.read.data is None for span in arrival.spans):
                # Reads begin in the order of files, whichever of a file's parts is first.
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

    def _read_positions(self, layer: Layer) -> bytes | None:
        tensor = layer.dense.positions if layer.dense else None
        if tensor is None:
            return None
        where = self._files.location(tensor.file)
        try:
            data = self._files.read(tensor.file, *tensor.span(0, tensor.length))
        except FileNotFoundError as error:
            raise ModelError(f"{where} is missing: copy or prepare the model again") from error
        assert layer.dense
        if hashlib.sha256(data).hexdigest() != layer.dense.positions_sha256:
            raise ModelError(
                f"the positions of a layer in {where} are not the bytes that were prepared (sha256 differs): "
                "copy or prepare the model again"
            )
        return data

    def _check(self, arrival: _Arrival) -> memoryview:
        part, views = arrival.part, [span.bytes() for span in arrival.spans]
        # A part in one piece is not copied; those in many are of small layers, which share a file.
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


def _joined(tiles: Sequence[tuple[int, int, int]]) -> Iterator[tuple[int, int, int]]:
    """Tiles (begin, end, part) of the same part that touch, as one."""
    for number, run in groupby(tiles, key=lambda tile: tile[2]):
        start = stop = -1
        for begin, end, _ in run:
            if begin != stop:
                if stop > start:
                    yield start, stop, number
                start = begin
            stop = end
        yield start, stop, number

"""What `benchmarks.codec` compares: all messages of a run, and two ways to write them."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from lamella.activations import Activations
from lamella.codec import Bases
from lamella.cut import read_cut
from lamella.files import Directory
from lamella.inputs import Batch
from lamella.kernel import Processor, forward
from lamella.manifest import read_manifest
from lamella.plan import LayerPart, Link, Range
from lamella.streaming import WeightStream
from lamella.tiles import read_tiles

Clock = Callable[[], float]


@dataclass(frozen=True)
class Sending:
    """What one worker sends for a layer.

    Attributes
    ----------
    layer
        That the rows are an input of.
    block
        The worker's own rows, from ``first_row`` on.
    """

    layer: int
    sender: int
    samples: Range
    block: Activations
    first_row: int
    links: tuple[Link, ...]

    def messages(self) -> Iterator[tuple[int, Activations]]:
        """Each peer, and what it must get."""
        for link in self.links:
            rows = Activations(self.block.live, self.block.values[link.rows - self.first_row])
            yield link.peer, rows.without_dead()


def sendings(
    model: Path, batch: Batch, workers: int, took: Callable[[float], None], clock: Clock
) -> Iterator[Sending]:
    """Everything that the workers of a run under ``rows`` send, layer by layer.

    Parameters
    ----------
    took
        Told what each layer takes the kernel, by all rows at once.
    """
    files, samples = Directory(model), (0, batch.samples)
    manifest = read_manifest(files)
    cut = read_cut(files, manifest, workers)
    whole = [
        LayerPart(k, (0, layer.rows), (0, layer.nnz), layer.sha256) for k, layer in enumerate(manifest.layers)
    ]
    y = batch.block(None, samples)
    with WeightStream(files, manifest, read_tiles(files, manifest), whole) as weights, Processor() as one:
        for k, layer in enumerate(manifest.layers[:-1]):
            ready = [next(weights).for_kernel(layer, None, layer.columns)]
            began = clock()
            y = forward(ready, y, samples, one)
            took(clock() - began)
            links: dict[int, list[Link]] = {}
            for receiver in range(workers):
                for sender, rows in cut.halo.get((k + 1, receiver), []):
                    links.setdefault(sender, []).append(Link(receiver, rows))
            for sender in sorted(links):
                start, stop = cut.rows(k, sender)
                own = Activations(y.live, y.values[start:stop]).without_dead()
                yield Sending(k + 1, sender, samples, own, start, tuple(links[sender]))


class Ours:
    """The codec, each worker with its bases."""

    def __init__(self, workers: int) -> None:
        self._workers = [Bases() for _ in range(workers)]

    def encode(self, sending: Sending) -> dict[int, bytes]:
        """What goes to each peer."""
        return self._workers[sending.sender].encode(
            sending.layer, sending.samples, sending.block, sending.first_row, sending.links
        )

    def decode(self, sending: Sending, letters: dict[int, bytes]) -> list[Activations]:
        """What each peer has of it."""
        return [
            self._workers[link.peer].decode(
                sending.layer, sending.samples, sending.sender, letters[link.peer], len(link.rows)
            )
            for link in sending.links
        ]


Csr = csr_array[np.float32, tuple[int, int]]


def csr_of(block: Activations, samples: Range) -> Csr:
    """A block as the paper's workers have it: its rows, a column for every sample of the batch."""
    row, column = block.values.nonzero()
    starts = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=len(block.values)))])
    indices = (block.live - samples[0])[column].astype(np.int32)
    shape = (len(block.values), samples[1] - samples[0])
    return csr_array((block.values[row, column], indices, starts.astype(np.int32)), shape=shape)


def csr_to_bytes(matrix: Csr) -> bytes:
    """Its three arrays behind each other, through zlib at its default level."""
    return zlib.compress(matrix.indptr.tobytes() + matrix.indices.tobytes() + matrix.data.tobytes())


def csr_from_bytes(data: bytes, shape: tuple[int, int]) -> Csr:
    """What `csr_to_bytes` wrote."""
    body = zlib.decompress(data)
    indptr = np.frombuffer(body, np.int32, shape[0] + 1)
    nonzero, at = int(indptr[-1]), indptr.nbytes
    indices = np.frombuffer(body, np.int32, nonzero, at)
    return csr_array(
        (np.frombuffer(body, np.float32, nonzero, at + indices.nbytes), indices, indptr), shape=shape
    )


def order0_entropy_bytes(block: Activations, samples: Range) -> float:
    """What no code can go below that writes a block symbol by symbol, whatever its neighbours are.

    The symbols are the bits of each cell of the samples that are live, and for each sample whether it is;
    each has the frequency that it has in this block. The frequencies themselves are not counted, nor is the
    shape. A code that knows of repeated rows, or of the message before, can go below.
    """
    block = block.without_dead()
    count, live = samples[1] - samples[0], len(block.live)
    _, cells = np.unique(block.values.view(np.uint32), return_counts=True)
    return (_bits(cells) + _bits(np.array([live, count - live]))) / 8


def _bits(frequencies: NDArray[np.int64]) -> float:
    found = frequencies[frequencies > 0].astype(float)
    return float(found.sum() * np.log2(found.sum()) - (found * np.log2(found)).sum()) if len(found) else 0.0

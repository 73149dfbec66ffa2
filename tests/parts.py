"""Workers' parts in memory, put together as Collect does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lamella.activations import Activations
from lamella.dealing import Dealing
from lamella.part_stream import PartStream
from lamella.parts import part_to_bytes
from lamella.predictions import sample_blocks
from lamella.records import Share, WorkerReport

REPORT = WorkerReport(
    3, 1.0, 2.0, 3.0, 1024, ((0, 0.1, 0.2, 0.3, 0.4, 5, 0, 0, 1.5, 1, 9, ()),), (17, "stream"), {}
)


@dataclass
class MemoryFiles:
    """Files of a dictionary, which notes the bytes that are read."""

    data: dict[str, bytes] = field(default_factory=dict)
    reads: list[tuple[str, int, int]] = field(default_factory=list)

    def read(self, path: str, start: int = 0, stop: int | None = None) -> bytes:
        if path not in self.data:
            raise FileNotFoundError(f"there is no {path}")
        found = self.data[path][start:stop]
        self.reads.append((path, start, start + len(found)))
        return found

    def location(self, path: str = "") -> str:
        return f"memory:{path}"


def part_files(parts: Sequence[Activations], shares: Sequence[Share]) -> MemoryFiles:
    """What workers leave, each in a file of its number."""
    both = zip(parts, shares, strict=True)
    return MemoryFiles(
        {
            str(worker): part_to_bytes(part, share, len(shares), REPORT)
            for worker, (part, share) in enumerate(both)
        }
    )


def collected(
    parts: Sequence[Activations],
    shares: Sequence[Share],
    samples: int,
    order: NDArray[np.int64],
    dealing: Dealing | None = None,
    *,
    softmaxed: bool = False,
) -> NDArray[np.float32]:
    """The whole output, samples x outputs."""
    return assembled(part_files(parts, shares), shares, samples, order, dealing, softmaxed=softmaxed)


def assembled(
    files: MemoryFiles,
    shares: Sequence[Share],
    samples: int,
    order: NDArray[np.int64],
    dealing: Dealing | None = None,
    *,
    softmaxed: bool = False,
) -> NDArray[np.float32]:
    """The same, of files."""
    dealing = dealing or Dealing()
    with PartStream(files, str, shares, dealing) as stream:
        blocks = sample_blocks(stream, shares, dealing, samples, order, softmaxed=softmaxed)
        return np.concatenate([block.values for block in blocks])

"""A worker's part of the output, as it leaves it and Collect reads it.

One safetensors file: the report in its metadata, and one tensor for each block of samples, named by the
position of its first. Blocks are encoded each on its own, so neither side ever needs more than one of them as
bytes or, at Collect's, as numbers. Both sides know the blocks' bounds from what the plan says.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from lamella.activations import Activations
from lamella.codec import decode, encode, most_encoded_bytes
from lamella.errors import MessageError, RunError
from lamella.plan import Range
from lamella.records import Share, WorkerReport, from_json, to_json
from lamella.tensors import LENGTH_BYTES, MOST_HEADER_BYTES, head

# Of one block of every worker, as float32: all of them together are what Collect may have to hold.
BLOCK_BYTES = 16 << 20


def block_bounds(share: Share, workers: int) -> list[Range]:
    """The blocks of a part: ranges of positions, none where the worker has no rows of the output.

    Parameters
    ----------
    workers
        Of the run. Each has an equal part of `BLOCK_BYTES`, but a block has at least one sample.
    """
    rows = share.rows[1] - share.rows[0]
    if not rows:
        return []
    length = max(1, BLOCK_BYTES // (4 * rows * workers))
    return [(start, min(start + length, share.samples[1])) for start in range(*share.samples, length)]


def encoded_blocks(output: Activations, share: Share, workers: int) -> Iterator[bytes]:
    """The blocks of a worker's output, one at a time."""
    for bounds in block_bounds(share, workers):
        yield encode(output.select(bounds), bounds)


@dataclass
class PartIndex:
    """Sizes, bytes, and checksums, of a part's blocks, in their order."""

    sizes: list[int] = field(default_factory=list)
    checksums: list[int] = field(default_factory=list)

    def add(self, block: bytes) -> None:
        """Note the next block."""
        self.sizes.append(len(block))
        self.checksums.append(zlib.crc32(block))

    def head(self, share: Share, workers: int, report: WorkerReport) -> bytes:
        """What stands before the blocks."""
        bounds = block_bounds(share, workers)
        named = zip(bounds, self.sizes, strict=True)
        described = {"report": to_json(report).decode(), "crc32": json.dumps(self.checksums)}
        return head([(str(start), "U8", (size,)) for (start, _), size in named], described)


def part_to_bytes(output: Activations, share: Share, workers: int, report: WorkerReport) -> bytes:
    """A whole part, for one that is small."""
    blocks, index = list(encoded_blocks(output, share, workers)), PartIndex()
    for block in blocks:
        index.add(block)
    return b"".join([index.head(share, workers, report), *blocks])


@dataclass(frozen=True)
class Block:
    """One block of a part.

    Attributes
    ----------
    positions
        Of its samples.
    start, stop
        Its bytes in the file.
    """

    positions: Range
    start: int
    stop: int
    checksum: int


@dataclass(frozen=True)
class PartHead:
    """What a part says of itself."""

    report: WorkerReport
    blocks: tuple[Block, ...]


def head_bytes(data: bytes, where: str) -> int:
    """Bytes of a part up to its first block; ``data`` is how it begins.

    Raises
    ------
    RunError
        If no part begins like this.
    """
    size = int.from_bytes(data[:LENGTH_BYTES], "little")
    if len(data) < LENGTH_BYTES or size > MOST_HEADER_BYTES:
        raise RunError(f"{where} is no part of an output")
    return LENGTH_BYTES + size


def parse_head(data: bytes, share: Share, workers: int, where: str) -> PartHead:
    """Read what `PartIndex.head` wrote.

    Raises
    ------
    RunError
        If it is something else, or its blocks are not those of the planned share.
    """
    try:
        entries = json.loads(data[LENGTH_BYTES:])
        described = entries.pop("__metadata__")
        report = described["report"]
        checksums = [int(checksum) for checksum in json.loads(described["crc32"])]
        offsets = {name: _offsets(entry) for name, entry in entries.items()}
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise RunError(f"{where} is no part of an output ({type(error).__name__} in its header)") from error
    bounds, rows = block_bounds(share, workers), share.rows[1] - share.rows[0]
    if list(offsets) != [str(start) for start, _ in bounds] or len(checksums) != len(bounds):
        raise RunError(f"{where} is not of {_described(share)}, as planned")
    blocks, end = [], 0
    for positions, (start, stop), checksum in zip(bounds, offsets.values(), checksums, strict=True):
        count = positions[1] - positions[0]
        if start != end or not 0 <= stop - start <= most_encoded_bytes(rows, count):
            raise RunError(f"{where} has blocks where, or of a size that, none can be")
        blocks.append(Block(positions, len(data) + start, len(data) + stop, checksum))
        end = stop
    return PartHead(from_json(WorkerReport, report, where), tuple(blocks))


def parse_block(data: bytes, block: Block, share: Share, where: str) -> Activations:
    """A block's samples, numbered by position.

    Raises
    ------
    RunError
        If the bytes are not those that its worker wrote.
    """
    start, stop = block.positions
    what = f"{where}, samples {start:,} to {stop - 1:,} of the run"
    if len(data) != block.stop - block.start:
        raise RunError(
            f"{what}: cut short, {len(data):,} of {block.stop - block.start:,} bytes: run it again"
        )
    if zlib.crc32(data) != block.checksum:
        raise RunError(f"{what}: damaged, its checksum differs: run it again")
    try:
        return decode(data, share.rows[1] - share.rows[0], block.positions)
    except MessageError as error:
        raise RunError(f"{what}: {error}") from error


def _offsets(entry: dict[str, list[int]]) -> Range:
    start, stop = entry["data_offsets"]
    return int(start), int(stop)


def _described(share: Share) -> str:
    return (
        f"outputs {share.rows[0]:,} to {share.rows[1] - 1:,} of samples {share.samples[0]:,} to "
        f"{share.samples[1] - 1:,}"
    )

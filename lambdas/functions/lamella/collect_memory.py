"""What Collect's memory is for: pure arithmetic over shares.

``runtime + beginnings of the parts + what is read ahead + a block of every worker that is not used up + the
samples that are being merged + parts of uploads + order of outputs and samples``; none of it grows with the
samples but 4 bytes for each, and the parts of an upload of which there may only be so many.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from lamella.errors import PlanError
from lamella.part_stream import AHEAD_BYTES, FIRST_BYTES, LEAST_READ_BYTES
from lamella.parts import block_bounds
from lamella.plan import Range
from lamella.predictions import step_samples
from lamella.records import Share
from lamella.uploads import MOST_OBJECT_BYTES, SENDERS, part_bytes_for

# Of the function Collect, as template.yaml has it.
COLLECT_MEMORY_MB = 1769
RUNTIME_BYTES = 160 << 20  # Python, numpy, pydantic and boto3, and what its allocator keeps
# Float32 arrays of the samples that are being merged: as they are, by output, and softmax's float64 ones.
_STEP_ARRAYS = 14
# A worker's block while it is decoded: encoded, inflated, cells' bits, values, and the piece that is merged.
_DECODING_ARRAYS = 5


def collect_need_bytes(
    shares: Sequence[Share], outputs: int, samples: int, *, dealt: bool = False, activations: bool = True
) -> int:
    """What Collect takes at most.

    Parameters
    ----------
    dealt
        Whether a few of the input's samples may be with all workers; else they are with those of one range of
        positions, or of two that meet.
    activations
        Whether they are to be written.
    """
    workers = len(shares)
    blocks = [_block_bytes(share, workers) for share in shares]
    held = sum(blocks)
    if not dealt:
        together: Counter[Range] = Counter()
        for share, size in zip(shares, blocks, strict=True):
            together[share.samples] += size
        held = min(held, 2 * max(together.values()))
    beginnings = max(FIRST_BYTES, workers * LEAST_READ_BYTES)
    # What is needed is read in any case: of each block that is held, at least that.
    ahead = AHEAD_BYTES + max(held, workers * LEAST_READ_BYTES)
    decoding = _DECODING_ARRAYS * max(blocks)
    step = _STEP_ARRAYS * 4 * outputs * min(step_samples(outputs), samples)
    # Of each object: parts on their way, the first, the one being filled, and the first with its head.
    parts = part_bytes_for(0) + (part_bytes_for(4 * outputs * samples) if activations else 0)
    orders = 16 * outputs + 8 * samples
    return RUNTIME_BYTES + beginnings + ahead + held + decoding + step + (SENDERS + 3) * parts + orders


def check_collect(
    shares: Sequence[Share], outputs: int, samples: int, *, dealt: bool = False, activations: bool = True
) -> None:
    """Refuse an output that Collect could not put together.

    Raises
    ------
    PlanError
        If it needs more memory than Collect has, or its activations are more than an S3 object holds.
    """
    what = f"{outputs:,} outputs x {samples:,} samples"
    # The object's head, too, has to fit.
    if activations and 4 * outputs * samples > MOST_OBJECT_BYTES - (1 << 20):
        raise PlanError(
            f"the activations of {what} are more than the {MOST_OBJECT_BYTES >> 40} TiB that an S3 object "
            "holds: give fewer samples, or leave 'activations' out"
        )
    need_bytes = collect_need_bytes(shares, outputs, samples, dealt=dealt, activations=activations)
    if need_bytes > COLLECT_MEMORY_MB << 20:
        less = ", or leave 'activations' out" if activations else ""
        raise PlanError(
            f"to put {what} of {len(shares)} workers together takes {need_bytes >> 20:,} MB, and Collect has "
            f"{COLLECT_MEMORY_MB:,}: ask for fewer workers or strategy rows, give fewer samples{less}"
        )


def _block_bytes(share: Share, workers: int) -> int:
    bounds = block_bounds(share, workers)
    return 4 * (share.rows[1] - share.rows[0]) * (bounds[0][1] - bounds[0][0]) if bounds else 0

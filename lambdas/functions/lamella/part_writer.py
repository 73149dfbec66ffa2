"""A worker leaves its part of the output, in bounded memory, and in it what leaving it took."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from lamella.parts import PartIndex
from lamella.records import Share, WorkerReport
from lamella.sealing import with_own_write
from lamella.storage import Bucket
from lamella.uploads import Upload
from lamella.usage import Usage


def write_part(
    bucket: Bucket,
    path: str,
    blocks: Iterable[bytes],
    share: Share,
    workers: int,
    report: WorkerReport,
    usage: Callable[[], Usage],
) -> int:
    """Write a part as its blocks come, unless there is one; the bytes of the blocks.

    A part is never replaced: of two starts of a worker that both come to its end, whoever reads sees one.

    Parameters
    ----------
    blocks
        As `lamella.parts.encoded_blocks`.
    report
        What is said of the worker; its usage is filled in.
    usage
        Of the worker so far.

    Raises
    ------
    CloudError
        If S3 refuses it.
    """
    index = PartIndex()
    most_bytes = 4 * (share.rows[1] - share.rows[0]) * (share.samples[1] - share.samples[0])
    with Upload(bucket, path, expected_bytes=most_bytes, once=True) as upload:
        for block in blocks:
            index.add(block)
            upload.write(block)
        # All requests but the last ones, which the head goes with and counts, are made.
        upload.settle()
        head = with_own_write(
            usage(),
            lambda used: index.head(share, workers, replace(report, usage=used.to_json())),
            upload.ending,
        )
        upload.finish(head)
    return sum(index.sizes)

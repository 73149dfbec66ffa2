"""Which start of a worker may go on: one object, changed only by conditional writes.

A worker may be started again while an earlier start still runs: whoever retries can't tell a lost answer from
a dead function. Each start takes the object over, with the next number, and each write replaces the writer's
own last one (If-Match), so an earlier start's next write is refused. What makes any interleaving of two safe:

- What a worker has received is deleted from its queue only after a write that holds it. Whoever takes over
  either reads that write, or has it refused, and then the messages come again.
- At its end a worker first leaves its part, then sees that nobody has taken over, and only then deletes the
  last messages. Whoever takes over first does so, and then looks for the part: it is there, or no message is
  gone that was not in the object.
- All that two starts send, and both their parts, are the same byte for byte, but for what a part reports of
  its worker; so it does not matter whose arrives, and a part that is there is never replaced.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import replace

from lamella.checkpoint import Checkpoint, Start, parse_checkpoint
from lamella.errors import CloudError, Superseded, WorkerError
from lamella.plan import Task
from lamella.storage import Bucket

_TRIES = 8


class Incarnation:
    """One start of a worker, as long as no later one has taken over.

    Parameters
    ----------
    etag
        Of the object as this start wrote it.
    """

    def __init__(self, bucket: Bucket, path: str, etag: str) -> None:
        self._bucket, self._path, self._etag = bucket, path, etag

    def write(self, data: bytes) -> None:
        """Replace this start's last write.

        Raises
        ------
        Superseded
            If a later start has taken over, or the run's objects are gone: nothing was written.
        CloudError
            If S3 does not take it.
        """
        etag = self._bucket.put_if(self._path, data, self._etag)
        if etag is None:
            raise self._superseded()
        self._etag = etag

    def check(self) -> None:
        """See that no later start has taken over.

        Raises
        ------
        Superseded
            If one has, or the run's objects are gone.
        CloudError
            If S3 does not say.
        """
        if not self.is_current():
            raise self._superseded()

    def is_current(self) -> bool:
        """Whether no later start has taken over."""
        return self._bucket.etag(self._path) == self._etag

    def _superseded(self) -> Superseded:
        where = self._bucket.location(self._path)
        return Superseded(f"another start of this worker has taken over, or the run is over ({where})")


def take_over(
    bucket: Bucket,
    path: str,
    task: Task,
    log_stream: str,
    now_s: float,
    may_go_on: Callable[[], bool],
) -> tuple[Incarnation, Checkpoint]:
    """Become the worker that may go on: the first, or the one after whoever is it.

    Parameters
    ----------
    path
        Of the worker's object.
    now_s
        Unix time of this start.
    may_go_on
        Whether a start that is not the first can do the task; asked of such a one alone.

    Returns
    -------
    Incarnation
        This start.
    Checkpoint
        Where to go on, already in this start's name; of the first, the beginning.

    Raises
    ------
    WorkerError
        If this is not the first start, and only that can do the task.
    MessageError
        If what the start before left is damaged.
    CloudError
        If S3 fails, or others take over all the time.
    """
    nonce = secrets.token_hex(8)
    mine = Checkpoint(Start(1, nonce, log_stream), began_s=now_s)
    etag = bucket.put_if(path, mine.to_bytes(), None)
    for _ in range(_TRIES):
        if etag is not None:
            return Incarnation(bucket, path, etag), mine
        try:
            data, version = bucket.read_tagged(path)
        except FileNotFoundError as error:
            # A run's objects are only removed when it is over.
            raise Superseded(f"{error}: this run is over") from error
        before = parse_checkpoint(data, task, bucket.location(path))
        if not may_go_on():
            raise WorkerError(
                f"worker {task.worker} had begun before and stopped without an answer (killed, out of memory "
                f"or out of time: see log stream {before.start.log_stream}), and can't go on without "
                "checkpoints"
            )
        mine = replace(before, start=Start(before.start.incarnation + 1, nonce, log_stream))
        etag = bucket.put_if(path, mine.to_bytes(), version)
    raise CloudError(f"{bucket.location(path)} can't be taken over: others do so all the time")

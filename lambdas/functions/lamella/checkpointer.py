"""When a worker writes a checkpoint, and what follows from one: what it holds need not come again."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace

from lamella.checkpoint import Checkpoint
from lamella.engine import Progress
from lamella.incarnation import Incarnation
from lamella.mailbox import Mailbox
from lamella.usage import Count, Usage

CHECKPOINT_S = 2.0
"""Least time between two checkpoints, and before the first: a short run writes none."""
LEAST_SHARE = 10
"""A checkpoint is written only when as many times the time has passed as the last one took."""


class Checkpointer:
    """One worker's checkpoints.

    Parameters
    ----------
    last
        What the incarnation has written so far.
    steps
        Of the task: after the last one there is nothing to go on with.
    usage
        Of this start, so far.
    """

    def __init__(
        self,
        incarnation: Incarnation,
        last: Checkpoint,
        steps: int,
        mailbox: Mailbox | None,
        usage: Callable[[], Usage],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._incarnation, self._last, self._steps, self._mailbox = incarnation, last, steps, mailbox
        self._earlier, self._usage, self._clock = Usage.from_json(last.usage), usage, clock
        self._joined_s = last.joined_s
        self._progress = last.progress
        self._saved_steps = last.progress.steps
        self._saved_s, self._every_s = clock(), CHECKPOINT_S

    @property
    def progress(self) -> Progress:
        """What the engine goes on with, and tells how far it has come."""
        return self._progress

    @property
    def began_s(self) -> float:
        """Unix time of the worker's first start."""
        return self._last.began_s

    @property
    def incarnation(self) -> int:
        """Which of the worker's starts this is."""
        return self._last.start.incarnation

    @property
    def written(self) -> int:
        """Checkpoints, in all of the worker's starts."""
        return self._last.written

    def joined(self, now_s: float) -> float:
        """The worker has met its gang; the Unix time at which it, or an earlier start of it, first did so."""
        self._joined_s = self._joined_s or now_s
        return self._joined_s

    def usage(self) -> Usage:
        """Of all starts, as far as it is known, so far."""
        return self._earlier + self._usage()

    def step_done(self) -> None:
        """A step has ended: the time for a checkpoint, if one is due.

        Raises
        ------
        LamellaError
            If what was posted could not be sent.
        Superseded
            If a later start has taken over.
        CloudError
            If S3 does not take the checkpoint.
        """
        if self._progress.steps < self._steps and self._due_in_s() <= 0:
            self._save()
        elif self._mailbox:
            self._mailbox.renew(self._incarnation.check)

    def waiting(self) -> float:
        """The worker waits for its peers: a checkpoint, if one is due, frees it of what it holds.

        Without a step done there is none: what the gang said when it met has to come again to whoever takes
        over then, who meets it again.

        Returns
        -------
        float
            In how many seconds it wants to be called again.

        Raises
        ------
        LamellaError, Superseded, CloudError
            As `step_done`.
        """
        assert self._mailbox is not None
        due_s = math.inf
        if self._progress.steps and (self._mailbox.holds or self._progress.steps > self._saved_steps):
            due_s = self._due_in_s()
            if due_s <= 0:
                self._save()
                due_s = math.inf
        return min(due_s, self._mailbox.renew(self._incarnation.check))

    def end(self) -> None:
        """See that nobody has taken over.

        Raises
        ------
        Superseded, CloudError
            As `step_done`.
        """
        self._incarnation.check()

    def ending(self) -> Usage:
        """What is still requested once the worker's part is written: one `end`, and its mailbox's leaving."""
        look = Usage({"s3.head_object": Count(1, 1)})
        return look + self._mailbox.leaving() if self._mailbox else look

    def _due_in_s(self) -> float:
        return self._saved_s + self._every_s - self._clock()

    def _save(self) -> None:
        began_s = self._clock()
        box = self._mailbox
        if box:
            # Whoever goes on from here will not send it.
            box.flush()
        checkpoint = replace(
            self._last,
            progress=self._progress,
            letters=tuple(box.letters()) if box else (),
            objects_left=box.objects_left if box else 0,
            written=self._last.written + 1,
            joined_s=self._joined_s,
            usage=self.usage().to_json(),
        )
        self._incarnation.write(checkpoint.to_bytes())
        self._last = replace(checkpoint, letters=())
        if box:
            box.acknowledge()
        self._saved_s, self._saved_steps = self._clock(), self._progress.steps
        self._every_s = max(CHECKPOINT_S, LEAST_SHARE * (self._saved_s - began_s))

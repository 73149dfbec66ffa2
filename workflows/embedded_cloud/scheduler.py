"""Fires what is due by the cloud's clock: the engine behind EventBridge Scheduler and scheduled rules."""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from workflows.embedded_cloud.clock import Clock
from workflows.embedded_cloud.schedule_expressions import Timetable

MOST_FIRED_AT_ONCE = 1_000
"""Due times of one schedule that one move of the clock fires; those after them are skipped."""
_LONGEST_SLEEP_S = 1.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Scheduled:
    """A schedule that is enabled.

    Attributes
    ----------
    arn
        Names it.
    fire
        Calls the target; is given the due time, in seconds since the epoch.
    completed
        Told once that it will not be due again.
    """

    arn: str
    timetable: Timetable
    fire: Callable[[float], None]
    completed: Callable[[], None] = field(default=lambda: None)


Source = Callable[[], Iterable[Scheduled]]


@dataclass
class _Pending:
    scheduled: Scheduled
    due_times: Iterator[float]
    due: float | None
    fired: int = 0


class Scheduler:
    """Fires every due time once, in order of time, whether it came by itself or the clock was moved past it.

    Schedules stay where they are kept; the scheduler asks its sources for them. A schedule that is new,
    enabled again, or has another timetable counts from the moment at which that is seen: :meth:`refresh`
    after a change makes that the moment of the change.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._sources: list[Source] = []
        self._pending: dict[str, _Pending] = {}
        self._once: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._changed = threading.Condition(threading.RLock())
        self._closed = False

    def add_source(self, source: Source) -> None:
        """Have the schedules that ``source`` returns fired."""
        self._sources.append(source)

    def start(self) -> None:
        """Fire in a thread of its own until :meth:`close`."""
        threading.Thread(target=self._run, name="scheduler", daemon=True).start()

    def close(self) -> None:
        """Fire nothing more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def later(self, delay_s: float, action: Callable[[], None]) -> None:
        """Call ``action`` once, when that many seconds have passed by the clock."""
        with self._changed:
            heapq.heappush(self._once, (self.clock.now() + delay_s, next(self._numbers), action))
            self._changed.notify_all()

    def refresh(self) -> None:
        """Look at the schedules: count for those that are new or changed, forget those that are gone."""
        with self._changed:
            now = self.clock.now()
            current = {each.arn: each for source in self._sources for each in source()}
            for arn in self._pending.keys() - current.keys():
                del self._pending[arn]
            for arn, scheduled in current.items():
                known = self._pending.get(arn)
                if known is not None and known.scheduled.timetable == scheduled.timetable:
                    known.scheduled = scheduled
                else:
                    due_times = scheduled.timetable.due_from(now)
                    self._pending[arn] = _Pending(scheduled, due_times, next(due_times, None))
            self._changed.notify_all()

    def advance(self, seconds: float) -> float:
        """Move the clock forward, fire what that made due, and return the new time.

        Raises
        ------
        EmbeddedCloudError
            If the clock cannot be moved by that.
        """
        with self._changed:
            self.refresh()
            self.clock.advance(seconds)
            self._fire_due()
            return self.clock.now()

    def _run(self) -> None:
        with self._changed:
            while not self._closed:
                self.refresh()
                self._fire_due()
                dues = [each.due for each in self._pending.values() if each.due is not None]
                dues += [due for due, _, _ in self._once[:1]]
                sleep_s = min(dues, default=float("inf")) - self.clock.now()
                self._changed.wait(min(max(sleep_s, 0.0), _LONGEST_SLEEP_S))

    def _fire_due(self) -> None:
        for each in self._pending.values():
            each.fired = 0
        while True:
            now = self.clock.now()
            first = min(
                (each for each in self._pending.values() if each.due is not None and each.due <= now),
                key=lambda each: each.due or 0.0,
                default=None,
            )
            once = self._once[0] if self._once and self._once[0][0] <= now else None
            if once is not None and (first is None or first.due is None or once[0] <= first.due):
                heapq.heappop(self._once)
                _run_logged(once[2], "retry")
            elif first is not None:
                self._fire(first)
            else:
                return

    def _fire(self, pending: _Pending) -> None:
        scheduled, due = pending.scheduled, pending.due or 0.0
        pending.due = next(pending.due_times, None)
        pending.fired += 1
        _run_logged(lambda: scheduled.fire(due), scheduled.arn)
        if pending.fired >= MOST_FIRED_AT_ONCE:
            now = self.clock.now()
            _log.warning(
                "%s: fired for %d due times, those after them not", scheduled.arn, MOST_FIRED_AT_ONCE
            )
            pending.due = next((each for each in pending.due_times if each > now), None)
        if pending.due is None:
            _run_logged(scheduled.completed, scheduled.arn)


def _run_logged(action: Callable[[], None], of: str) -> None:
    try:
        action()
    except Exception:
        _log.exception("%s", of)

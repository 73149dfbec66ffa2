"""at(), rate() and cron(): when a schedule is due.

docs.aws.amazon.com/scheduler/latest/UserGuide/schedule-types.html
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from workflows.embedded_cloud.cron import CronExpression

_CALL = re.compile(r"(at|rate|cron)\((.*)\)", re.DOTALL)
_RATE = re.compile(r"(\d+) (minutes?|hours?|days?)")
_UNIT_S = {"minute": 60, "hour": 3_600, "day": 86_400}


@dataclass(frozen=True)
class At:
    """Once, at a moment in seconds since the epoch."""

    moment_s: float


@dataclass(frozen=True)
class Rate:
    """Again and again, in seconds."""

    period_s: float


ScheduleExpression = At | Rate | CronExpression


@dataclass(frozen=True)
class Timetable:
    """Everything that decides when a schedule is due.

    Attributes
    ----------
    zone
        In which at() and cron() are read.
    start_s, end_s
        The times, in seconds since the epoch, from and until which it is due; at() knows neither.
    at_once
        Whether a rate without a start is due as soon as it counts; else one period later.
    """

    expression: ScheduleExpression
    zone: tzinfo
    start_s: float | None = None
    end_s: float | None = None
    at_once: bool = False

    def due_from(self, since_s: float) -> Iterator[float]:
        """Yield due times, ascending.

        Parameters
        ----------
        since_s
            When the schedule began to count: was created, changed or enabled.
        """
        if isinstance(self.expression, At):
            yield from [self.expression.moment_s] if self.expression.moment_s >= since_s else []
            return
        end = math.inf if self.end_s is None else self.end_s
        yield from itertools.takewhile(lambda due: due <= end, self._recurring(self.expression, since_s))

    def _recurring(self, expression: Rate | CronExpression, since_s: float) -> Iterator[float]:
        if isinstance(expression, CronExpression):
            start = since_s if self.start_s is None else max(since_s, math.nextafter(self.start_s, 0))
            yield from expression.after(start, self.zone)
            return
        period = expression.period_s
        if self.start_s is None:
            first = since_s if self.at_once else since_s + period
        else:
            first = self.start_s + max(0, math.ceil((since_s - self.start_s) / period)) * period
        yield from (first + number * period for number in itertools.count())


def parse_expression(text: str, zone: tzinfo) -> ScheduleExpression:
    """Read a ScheduleExpression.

    Raises
    ------
    ValueError
        If AWS would refuse it; says why.
    """
    call = _CALL.fullmatch(text.strip())
    if call is None:
        raise ValueError(f"{text} is not at(...), rate(...) or cron(...)")
    kind, inside = call[1], call[2].strip()
    if kind == "cron":
        return CronExpression.parse(inside)
    if kind == "at":
        return At(datetime.strptime(inside, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=zone).timestamp())
    rate = _RATE.fullmatch(inside)
    if rate is None or int(rate[1]) == 0:
        raise ValueError(f"{text} is not rate(NUMBER minutes|hours|days)")
    return Rate(int(rate[1]) * _UNIT_S[rate[2].removesuffix("s")])


def parse_zone(name: str | None) -> tzinfo:
    """Find a time zone of the IANA database.

    Raises
    ------
    ValueError
        If there is none of that name.
    """
    try:
        return ZoneInfo(name or "UTC")
    except (ZoneInfoNotFoundError, OSError, ValueError) as error:
        raise ValueError(f"there is no time zone {name}") from error

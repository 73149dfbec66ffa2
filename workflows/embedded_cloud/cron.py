"""cron(minutes hours day-of-month month day-of-week year), in AWS's dialect.

docs.aws.amazon.com/scheduler/latest/UserGuide/schedule-types.html#cron-based
"""

from __future__ import annotations

import calendar
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, tzinfo
from functools import cached_property
from types import MappingProxyType

FIRST_YEAR, LAST_YEAR = 1970, 2199
_MONTHS = {name.upper(): number for number, name in enumerate(calendar.month_abbr) if name}
_DAYS = {name: number for number, name in enumerate(("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"), 1)}
_SATURDAY = 7


@dataclass(frozen=True)
class CronExpression:
    """When a cron expression is due.

    Attributes
    ----------
    minutes, hours, months, years
        The values that match.
    day_of_month, day_of_week
        As written: what they mean depends on the month. One of them is "?".
    """

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    day_of_month: str
    months: frozenset[int]
    day_of_week: str
    years: frozenset[int]

    @classmethod
    def parse(cls, fields: str) -> CronExpression:
        """Read what stands between the parentheses.

        Raises
        ------
        ValueError
            If AWS would refuse it.
        """
        words = fields.upper().split()
        if len(words) != 6:
            raise ValueError(f"a cron expression has six fields, not {len(words)}")
        minutes, hours, day_of_month, month, day_of_week, year = words
        if (day_of_month == "?") == (day_of_week == "?"):
            raise ValueError("exactly one of day-of-month and day-of-week is ?")
        parsed = cls(
            tuple(sorted(_values(minutes, 0, 59))),
            tuple(sorted(_values(hours, 0, 23))),
            day_of_month,
            frozenset(_values(month, 1, 12, _MONTHS)),
            day_of_week,
            frozenset(_values(year, FIRST_YEAR, LAST_YEAR)),
        )
        _check_day_of_month(day_of_month)
        _check_day_of_week(day_of_week)
        return parsed

    def after(self, moment_s: float, zone: tzinfo) -> Iterator[float]:
        """Yield due times later than ``moment_s``, in seconds since the epoch, ascending.

        A local time that clocks skip in spring is not due; one that they pass twice in autumn is due once.
        """
        for day in self._days_from(datetime.fromtimestamp(moment_s, zone).date()):
            for at in self._times:
                due = _instant(day, at, zone)
                if due is not None and due > moment_s:
                    yield due

    @cached_property
    def _times(self) -> tuple[time, ...]:
        return tuple(time(hour, minute) for hour in self.hours for minute in self.minutes)

    def _days_from(self, first: date) -> Iterator[date]:
        for year in sorted(self.years):
            for month in sorted(self.months):
                if (year, month) >= (first.year, first.month):
                    for number in sorted(self._days(year, month)):
                        if date(year, month, number) >= first:
                            yield date(year, month, number)

    def _days(self, year: int, month: int) -> set[int]:
        if self.day_of_week == "?":
            return _days_of_month(self.day_of_month, year, month)
        return _days_of_week(self.day_of_week, year, month)


def _instant(day: date, at: time, zone: tzinfo) -> float | None:
    local = datetime.combine(day, at, zone)
    instant = local.timestamp()
    exists = datetime.fromtimestamp(instant, zone).replace(tzinfo=None, fold=0) == local.replace(tzinfo=None)
    return instant if exists else None


def _days_of_month(field: str, year: int, month: int) -> set[int]:
    last = calendar.monthrange(year, month)[1]
    if field == "L":
        return {last}
    if field.endswith("W"):
        wanted = int(field[:-1])
        return {_nearest_weekday(year, month, wanted, last)} if wanted <= last else set()
    return {day for day in _values(field, 1, 31) if day <= last}


def _nearest_weekday(year: int, month: int, day: int, last: int) -> int:
    """The weekday nearest to a day, in the same month."""
    weekday = date(year, month, day).weekday()
    if weekday == calendar.SATURDAY:
        return day - 1 if day > 1 else day + 2
    if weekday == calendar.SUNDAY:
        return day + 1 if day < last else day - 2
    return day


def _days_of_week(field: str, year: int, month: int) -> set[int]:
    last = calendar.monthrange(year, month)[1]
    by_weekday: dict[int, list[int]] = {}
    for day in range(1, last + 1):
        by_weekday.setdefault(date(year, month, day).isoweekday() % 7 + 1, []).append(day)
    if "#" in field:
        weekday, _, nth = field.partition("#")
        found = by_weekday[_number(weekday, 1, 7, _DAYS)]
        return {found[int(nth) - 1]} if int(nth) <= len(found) else set()
    if field.endswith("L") and field != "L":
        return {by_weekday[_number(field[:-1], 1, 7, _DAYS)][-1]}
    wanted = {_SATURDAY} if field == "L" else _values(field, 1, 7, _DAYS)
    return {day for weekday in wanted for day in by_weekday[weekday]}


def _check_day_of_month(field: str) -> None:
    if field not in ("?", "L"):
        _values(field.removesuffix("W"), 1, 31)
    if field.endswith("W"):
        _number(field[:-1], 1, 31)


def _check_day_of_week(field: str) -> None:
    if field in ("?", "L"):
        return
    if "#" in field:
        weekday, _, nth = field.partition("#")
        _number(weekday, 1, 7, _DAYS)
        _number(nth, 1, 5)
    elif field.endswith("L"):
        _number(field[:-1], 1, 7, _DAYS)
    else:
        _values(field, 1, 7, _DAYS)


def _values(field: str, low: int, high: int, names: Mapping[str, int] = MappingProxyType({})) -> set[int]:
    """Values of a field of numbers or names, lists, ranges and steps."""
    found: set[int] = set()
    for part in field.split(","):
        span, slash, step_text = part.partition("/")
        step = _number(step_text, 1, high) if slash else 1
        first_text, dash, last_text = span.partition("-")
        if span == "*":
            first, last = low, high
        else:
            first = _number(first_text, low, high, names)
            last = _number(last_text, low, high, names) if dash else (high if slash else first)
        if first > last:
            raise ValueError(f"{part} ends before it starts")
        found.update(range(first, last + 1, step))
    return found


def _number(text: str, low: int, high: int, names: Mapping[str, int] = MappingProxyType({})) -> int:
    number = names.get(text) or (int(text) if text.isascii() and text.isdigit() else None)
    if number is None or not low <= number <= high:
        raise ValueError(f"{text or 'nothing'} where a value from {low} to {high} belongs")
    return number

"""When at(), rate() and cron() are due."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflows.embedded_cloud.schedule_expressions import Timetable, parse_expression, parse_zone


def due(expression: str, since: str, count: int, zone: str = "UTC") -> list[str]:
    found = parse_zone(zone)
    start = datetime.fromisoformat(since).replace(tzinfo=found).timestamp()
    times = Timetable(parse_expression(expression, found), found).due_from(start)
    return [
        datetime.fromtimestamp(each, found).strftime("%a %Y-%m-%d %H:%M")
        for each in itertools.islice(times, count)
    ]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("cron(15 10 * * ? *)", ["Thu 2026-01-01 10:15", "Fri 2026-01-02 10:15"]),
        ("cron(15 10 ? * 6L 2026-2027)", ["Fri 2026-01-30 10:15", "Fri 2026-02-27 10:15"]),
        (
            "cron(0 18 ? * MON-FRI *)",
            ["Thu 2026-01-01 18:00", "Fri 2026-01-02 18:00", "Mon 2026-01-05 18:00"],
        ),
        ("cron(0/15 * * * ? *)", ["Thu 2026-01-01 00:15", "Thu 2026-01-01 00:30"]),
        ("cron(0/30 20-2 ? * MON-FRI *)", None),
        ("cron(0 8 1 * ? *)", ["Thu 2026-01-01 08:00", "Sun 2026-02-01 08:00"]),
        ("cron(0 9 L * ? *)", ["Sat 2026-01-31 09:00", "Sat 2026-02-28 09:00"]),
        ("cron(0 9 3W * ? *)", ["Fri 2026-01-02 09:00", "Tue 2026-02-03 09:00"]),
        ("cron(0 9 1W 8 ? *)", ["Mon 2026-08-03 09:00", "Mon 2027-08-02 09:00"]),
        ("cron(0 9 31W * ? *)", ["Fri 2026-01-30 09:00", "Tue 2026-03-31 09:00"]),
        ("cron(0 9 ? * 3#2 *)", ["Tue 2026-01-13 09:00", "Tue 2026-02-10 09:00"]),
        ("cron(0 9 ? * FRI#5 *)", ["Fri 2026-01-30 09:00", "Fri 2026-05-29 09:00"]),
        ("cron(0 0 29 2 ? *)", ["Tue 2028-02-29 00:00", "Sun 2032-02-29 00:00"]),
        ("cron(5 0 ? JAN,MAR SUN 2027)", ["Sun 2027-01-03 00:05", "Sun 2027-01-10 00:05"]),
        ("cron(0 0 1 1 ? 2025)", []),
        ("at(2026-03-01T12:30:00)", ["Sun 2026-03-01 12:30"]),
        ("at(2025-03-01T12:30:00)", []),
        ("rate(1 hour)", ["Thu 2026-01-01 01:00", "Thu 2026-01-01 02:00"]),
        ("rate(2 days)", ["Sat 2026-01-03 00:00", "Mon 2026-01-05 00:00"]),
    ],
)
def test_due_times(expression: str, expected: list[str] | None) -> None:
    if expected is None:
        with pytest.raises(ValueError, match="ends before it starts"):
            due(expression, "2026-01-01T00:00:00", 1)
    else:
        assert due(expression, "2026-01-01T00:00:00", max(2, len(expected))) == expected


def test_clocks_that_are_put_forward_skip_and_those_put_back_do_not_repeat() -> None:
    spring = due("cron(30 2 * * ? *)", "2026-03-28T12:00:00", 2, "Europe/Berlin")
    assert spring == ["Mon 2026-03-30 02:30", "Tue 2026-03-31 02:30"]
    autumn = due("cron(30 2 * * ? *)", "2026-10-24T12:00:00", 2, "Europe/Berlin")
    assert autumn == ["Sun 2026-10-25 02:30", "Mon 2026-10-26 02:30"]


@pytest.mark.parametrize(
    "expression",
    [
        "cron(0 0 * * * *)",
        "cron(0 0 ? * ? *)",
        "cron(0 0 * * ?)",
        "cron(60 0 * * ? *)",
        "cron(0 24 * * ? *)",
        "cron(0 0 32 * ? *)",
        "cron(0 0 W * ? *)",
        "cron(0 0 ? * MON#6 *)",
        "cron(0 0 ? * 8 *)",
        "cron(0 0 * FOO ? *)",
        "cron(0/0 0 * * ? *)",
        "cron(0 0 * * ? 2200)",
        "cron(0 0 1-5W * ? *)",
        "rate(0 minutes)",
        "rate(5)",
        "rate(1 week)",
        "at(tomorrow)",
        "every day",
    ],
)
def test_refused_expressions(expression: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse_expression(expression, UTC)


FEW_HOURS = st.sets(st.integers(0, 23), min_size=1, max_size=3)


@given(
    minutes=st.sets(st.integers(0, 59), min_size=1, max_size=3),
    hours=FEW_HOURS,
    days=st.sets(st.integers(1, 7), min_size=1, max_size=3),
    months=st.sets(st.integers(1, 12), min_size=1, max_size=6),
    since=st.datetimes(datetime(2026, 1, 1), datetime(2027, 12, 31)),
)
def test_cron_finds_every_minute_that_matches(
    minutes: set[int], hours: set[int], days: set[int], months: set[int], since: datetime
) -> None:
    since = since.replace(tzinfo=UTC)
    until = since + timedelta(days=40)
    first_day = since.replace(hour=0, minute=0, second=0, microsecond=0)
    wanted = [
        moment
        for day in range(41)
        for hour in sorted(hours)
        for minute in sorted(minutes)
        if since < (moment := first_day + timedelta(days=day, hours=hour, minutes=minute)) <= until
        if moment.month in months and moment.isoweekday() % 7 + 1 in days
    ]
    fields = [",".join(map(str, sorted(each))) for each in (minutes, hours, months, days)]
    expression = f"cron({fields[0]} {fields[1]} ? {fields[2]} {fields[3]} *)"
    timetable = Timetable(parse_expression(expression, UTC), UTC, end_s=until.timestamp())
    found = timetable.due_from(since.timestamp())
    assert [datetime.fromtimestamp(each, UTC) for each in found] == wanted


@given(period=st.integers(1, 59), start=st.integers(-7200, 7200))
def test_a_rate_keeps_to_its_start(period: int, start: int) -> None:
    timetable = Timetable(parse_expression(f"rate({period} minutes)", UTC), UTC, start_s=float(start))
    first, second = itertools.islice(timetable.due_from(0.0), 2)
    assert first >= max(0, start)
    assert first - max(0, start) < period * 60
    assert (first - start) % (period * 60) == 0
    assert second - first == period * 60

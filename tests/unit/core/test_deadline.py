"""One deadline, on a clock that never jumps."""

from __future__ import annotations

import math
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from lamella.deadline import Deadline, wait_for
from lamella.errors import DeadlineExceeded


class Clocks:
    """A monotonic clock and a wall clock that a test moves apart."""

    def __init__(self) -> None:
        self.monotonic_s, self.wall_s = 50.0, 1_000_000.0

    def pass_time(self, seconds: float) -> None:
        self.monotonic_s += seconds
        self.wall_s += seconds

    def until(self, unix_s: float) -> Deadline:
        return Deadline.at(unix_s, lambda: self.monotonic_s, lambda: self.wall_s)


def test_a_corrected_wall_clock_neither_ends_nor_prolongs_it() -> None:
    clocks = Clocks()
    deadline = clocks.until(1_000_060.0)
    clocks.wall_s += 3600
    clocks.pass_time(59)
    assert deadline.left_s == pytest.approx(1)
    assert not deadline.passed
    clocks.wall_s -= 7200
    clocks.pass_time(1)
    assert deadline.passed


def test_it_is_told_to_other_machines_in_unix_time() -> None:
    clocks = Clocks()
    deadline = clocks.until(1_000_060.0)
    clocks.pass_time(10)
    assert deadline.unix_s == pytest.approx(1_000_060.0)
    assert deadline.earlier(5).unix_s == pytest.approx(1_000_055.0)


def test_of_two_the_first_counts() -> None:
    clocks = Clocks()
    deadline = clocks.until(1_000_060.0)
    assert deadline.sooner_at(1_000_010.0).left_s == pytest.approx(10)
    assert deadline.sooner_at(1_000_100.0) == deadline
    assert deadline.sooner(deadline.earlier(7)).left_s == pytest.approx(53)


def test_a_moment_that_is_no_number_changes_nothing() -> None:
    deadline = Clocks().until(1_000_060.0)
    assert deadline.sooner_at(math.nan) == deadline


def test_what_was_not_done_in_time_is_said() -> None:
    clocks = Clocks()
    deadline = clocks.until(1_000_001.0)
    deadline.check("not done")
    clocks.pass_time(1)
    with pytest.raises(DeadlineExceeded, match="not done"):
        deadline.check("not done")


def test_a_wait_for_another_thread_ends_at_the_deadline() -> None:
    stalled = threading.Event()
    deadline = Deadline.after(0.05)
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(stalled.wait, 10)
        with pytest.raises(DeadlineExceeded, match="too slow"):
            wait_for(future, lambda: deadline.check("too slow"), look_s=0.01)
        stalled.set()
        assert wait_for(future, lambda: deadline.check("too slow"), look_s=0.01)

"""How often S3 is asked, and how soon what is there is had: the paper's run on a simulated clock."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partial
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella.channels import Place, Source
from lamella.channels.objects import Objects
from lamella.channels.patience import LONGEST_S, SHORTEST_S, Patience
from lamella.channels.s3 import S3Channel
from tests.unit.channels.simulated_time import SimulatedTime

WORKERS, STEPS = 8, 119
# Seconds from the beginning of a PUT until its object is there, and of a GET.
PUT_S, GET_S = 0.03, 0.02


class Store(Objects):
    """What one worker sees of objects that take their time."""

    def __init__(self, time: SimulatedTime, there: dict[Source, float], worker: int) -> None:
        self.gets = 0
        self._time, self._there, self._number = time, there, worker

    def write(self, place: Place, messages: Sequence[tuple[int, bytes]]) -> None:
        self._there[place, self._number] = self._time.clock() + PUT_S

    def read(self, sources: Sequence[Source]) -> list[list[bytes] | None]:
        if sources:
            self._time.sleep(GET_S)
        self.gets += len(sources)
        now_s = self._time.clock()
        return [[b""] if self._there.get(source, now_s + 1) <= now_s else None for source in sources]


def simulated(step_s: float, spread: float) -> tuple[int, float]:
    """GETs of a run in which everyone needs everyone, and seconds between the last object and its receipt."""
    time = SimulatedTime()
    there: dict[Source, float] = {}
    stores = [Store(time, there, worker) for worker in range(WORKERS)]
    late: list[float] = []

    def work(worker: int) -> None:
        drawn = random.Random(worker)
        channel = S3Channel(stores[worker], time.clock, time.sleep)
        for step in range(STEPS):
            time.sleep(step_s * drawn.lognormvariate(0, spread))
            channel.send((step, 0), [])
            wanted = {((step, 0), peer) for peer in range(WORKERS) if peer != worker}
            missing, began_s = set(wanted), time.clock()
            while missing:
                found = channel.receive(missing, 5)
                missing = {source for source in missing if _path(source) not in {d.receipt for d in found}}
            late.append(time.clock() - max(began_s, *(there[source] for source in wanted)))

    time.run([partial(work, worker) for worker in range(WORKERS)])
    return sum(store.gets for store in stores), sum(late) / len(late)


def _path(source: Source) -> str:
    (layer, first_sample), worker = source
    return f"{layer}/{first_sample}/{worker}"


@pytest.mark.parametrize(("step_s", "spread"), [(0.005, 0.3), (0.03, 0.3), (0.03, 1.0), (0.1, 0.6)])
def test_a_run_asks_little_more_than_it_must_and_is_not_late(step_s: float, spread: float) -> None:
    gets, late_s = simulated(step_s, spread)
    needed = WORKERS * (WORKERS - 1) * STEPS
    assert needed <= gets <= 12_000
    # Of a step and its PUT, whose GETs, one for the last and one for the others, are two.
    assert late_s <= 2 * GET_S + 0.3 * (step_s * 2 + PUT_S) + SHORTEST_S


@given(st.lists(st.tuples(st.floats(0, 100), st.one_of(st.none(), st.floats(0, 100))), max_size=20))
def test_no_pause_is_long_whatever_was_learnt(waits: list[tuple[float, float | None]]) -> None:
    patience = Patience()
    for waited_s, missed_s in waits:
        patience.came(((1, 0), 1), waited_s, missed_s)
    first, *others = islice(patience.pauses_s(), 30)
    assert 0 <= first <= 4 * LONGEST_S
    assert all(SHORTEST_S <= pause <= LONGEST_S for pause in others)


def test_whoever_was_late_is_asked_first_and_that_is_forgotten() -> None:
    patience = Patience()
    sources: list[Source] = [((1, 0), worker) for worker in range(3)]
    assert patience.ordered(sources) == sources
    patience.came(sources[2], 0.1, 0.05)
    patience.came(sources[1], 0.1, 0.05)
    patience.came(sources[1], 0.1, None)
    assert [worker for _, worker in patience.ordered(sources)] == [2, 1, 0]


def test_one_who_need_not_wait_is_not_made_to() -> None:
    patience = Patience()
    patience.came(((1, 0), 1), 0.2, 0.15)
    assert next(patience.pauses_s()) > 0
    for _ in range(20):
        patience.came(((1, 0), 1), 0.0, None)
    assert next(patience.pauses_s()) == 0


def test_of_a_thousand_who_are_to_come_the_missing_are_not_asked_for_each_time() -> None:
    time, there, workers = SimulatedTime(), dict[Source, float](), 1000
    store = Store(time, there, 0)

    def first() -> None:
        channel = S3Channel(store, time.clock, time.sleep)
        missing: set[Source] = {((0, 0), worker) for worker in range(1, workers)}
        while missing:
            found = {delivery.receipt for delivery in channel.receive(missing, 5)}
            missing = {source for source in missing if _path(source) not in found}

    drawn = random.Random(0)
    there |= {((0, 0), worker): drawn.uniform(0, 10) for worker in range(1, workers)}
    time.run([first])
    assert time.clock() < 12
    assert store.gets < 4 * workers

"""A run gets all or nothing, nothing is held twice, and a large gang is not starved by small ones."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella.errors import LeaseError
from lamella.lease_table import (
    Amount,
    Granted,
    Hold,
    Place,
    Short,
    Table,
    Units,
    ask,
    expiring,
    table_from_json,
    table_to_json,
    waiting,
    without,
)

ROOM = Amount(units=8, slots=4)
KEPT_S = 30.0


@dataclass
class Office:
    """A table, and runs that ask and wait as Plan does."""

    room: Amount = ROOM
    table: Table = field(default_factory=Table)
    now_s: float = 0.0

    def ask(self, run: str, units: int, slots: int = 0, until_s: float = 1000.0) -> Granted | Short:
        want = Amount(units, slots)
        self.table, answer = ask(self.table, run, want, self.room, self.now_s, until_s)
        if isinstance(answer, Short):
            self.table = waiting(self.table, run, want, self.now_s, self.now_s + KEPT_S)
        return answer

    def gets(self, run: str, units: int, slots: int = 0) -> bool:
        return isinstance(self.ask(run, units, slots), Granted)

    def leaves(self, run: str) -> None:
        self.table = without(self.table, run)


runs = st.sampled_from("abcdef")
steps = st.one_of(
    st.tuples(st.just("ask"), runs, st.integers(1, 8), st.integers(0, 4)),
    st.tuples(st.just("leave"), runs, st.just(0), st.just(0)),
    st.tuples(st.just("keep"), runs, st.just(0), st.just(0)),
    st.tuples(st.just("pass"), runs, st.integers(1, 40), st.just(0)),
)


@given(st.lists(steps, max_size=40))
def test_nothing_is_ever_held_twice_and_all_or_nothing_is_taken(
    story: list[tuple[str, str, int, int]],
) -> None:
    office = Office()
    for step, run, number, slots in story:
        before = office.table
        if step == "pass":
            office.now_s += number
            continue
        if step == "leave":
            office.leaves(run)
        elif step == "keep":
            office.table = expiring(office.table, run, office.now_s + 5)
        else:
            answer = office.ask(run, number, slots, until_s=office.now_s + 20)
            got = isinstance(answer, Granted)
            assert (office.table.place_of(run) is None) == got
            if got:
                assert office.table.units[run].count >= number
                assert len(answer.slots) == slots
                assert set(answer.slots) <= set(office.table.slots_of(run))
            else:
                assert office.table.slots_of(run) == before.slots_of(run)
            for slot, hold in before.slots.items():
                if hold.until_s > office.now_s:
                    assert office.table.slots[slot].run == hold.run
        live = [units.count for units in office.table.units.values()]
        assert sum(live) <= ROOM.units
        assert set(office.table.slots) <= set(range(ROOM.slots))
        assert table_from_json(table_to_json(office.table, "x"), "here") == office.table
        waiters = [place.run for place in office.table.line]
        assert len(waiters) == len(set(waiters))


@given(st.lists(st.tuples(st.integers(1, 8), st.integers(0, 4)), min_size=2, max_size=6), st.data())
def test_a_run_in_line_has_its_turn_whoever_comes_after_it(
    wants: list[tuple[int, int]], data: st.DataObject
) -> None:
    office = Office()
    assert office.gets("holder", ROOM.units, ROOM.slots)
    for number, want in enumerate(wants):
        assert not office.gets(f"run-{number}", *want)
    office.leaves("holder")
    served: list[int] = []
    # Whoever looks first: each look is in an order of its own, and more runs keep coming.
    for round_number in range(len(wants) + 1):
        left = [number for number in range(len(wants)) if number not in served]
        for number in data.draw(st.permutations(left)):
            if office.gets(f"run-{number}", *wants[number]):
                served.append(number)
        office.gets(f"late-{round_number}", 1, 0)
        for number in served:
            office.leaves(f"run-{number}")
        office.leaves(f"late-{round_number}")
    assert sorted(served) == list(range(len(wants)))


def test_a_large_gang_is_not_starved_by_small_ones() -> None:
    office = Office(Amount(8))
    assert office.gets("small-0", 4)
    assert not office.gets("large", 8)
    for number in range(1, 10):
        assert not office.gets(f"small-{number}", 1), "what the large one waits for was taken"
    office.leaves("small-0")
    assert not office.gets("small-1", 1)
    assert office.gets("large", 8)
    office.leaves("large")
    assert [office.gets(f"small-{number}", 1) for number in range(1, 10)] == [True] * 8 + [False]


def test_a_run_passes_those_that_wait_for_something_else() -> None:
    office = Office()
    assert office.gets("talks", 4, 4)
    assert not office.gets("talks-too", 2, 2)
    assert office.gets("serial", 1), "its unit was none that the other could use yet"
    assert not office.gets("large", 2), "that would leave one unit where two are waited for"
    office.leaves("talks")
    assert office.gets("talks-too", 2, 2)


def test_asking_again_keeps_what_one_has_and_until_when() -> None:
    office = Office()
    assert office.ask("run", 3, 3, until_s=100.0) == Granted((0, 1, 2), 0.0)
    office.now_s = 150.0  # nobody took it since
    assert office.ask("run", 3, 3, until_s=200.0) == Granted((0, 1, 2), 0.0)
    assert office.table.slots[0] == Hold("run", 200.0)
    assert office.table.units == {"run": Units(3, 200.0)}


def test_what_is_expired_is_free() -> None:
    office = Office()
    office.ask("old", 8, 4, until_s=10.0)
    office.now_s = 10.0
    assert office.ask("new", 8, 4) == Granted((0, 1, 2, 3), 0.0)
    assert office.table.runs == {"new"}


def test_a_run_that_is_not_heard_of_loses_its_place() -> None:
    office = Office()
    assert office.gets("holder", 8)
    assert not office.gets("gone", 8)
    assert not office.gets("next", 1)
    office.leaves("holder")
    office.now_s = KEPT_S - 1
    assert not office.gets("next", 1)
    office.now_s = KEPT_S + 1
    assert office.gets("next", 1)


def test_how_long_it_waited_is_kept_with_what_it_got() -> None:
    office = Office()
    assert office.gets("holder", 8)
    assert office.ask("run", 8) == Short(Amount(0, 4), ahead=0, waited_s=0.0)
    office.now_s = 12.0
    assert office.ask("run", 8) == Short(Amount(0, 4), ahead=0, waited_s=12.0)
    office.leaves("holder")
    office.now_s = 15.0
    assert office.ask("run", 8) == Granted((), 15.0, looks=2)
    assert office.ask("run", 8) == Granted((), 15.0, looks=2)


def test_what_is_kept_for_workers_that_stay_expires_and_waits_for_nothing() -> None:
    table = Table({0: Hold("run", 50.0)}, {"run": Units(1, 50.0)}, (Place("run", 2, 0, 0.0, 90.0),))
    assert expiring(table, "run", 20.0) == Table({0: Hold("run", 20.0)}, {"run": Units(1, 20.0)})
    assert expiring(table, "run", 70.0).slots == table.slots


def test_a_table_of_slots_alone_is_read() -> None:
    table = table_from_json(b'{"nonce": "x", "slots": {"3": {"run": "r", "until_s": 5}}}', "here")
    assert table == Table({3: Hold("r", 5.0)})


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"nonsense", b'{"slots": {"x": 1}}', b"[" * 100_000])
def test_a_damaged_table_is_said(data: bytes) -> None:
    with pytest.raises(LeaseError, match="here is damaged"):
        table_from_json(data, "here")

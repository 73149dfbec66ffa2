"""Who holds which slots and how much concurrency, and who waits for some: pure functions over one table.

A run gets all that it asks for, or nothing and a place in line. What those before it in line wait for is set
aside in full: small runs pass a large one only where that takes nothing it could have, so it is not starved.
A hold ends by being released or at its expiry, a place also where its run is not heard of any more.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from pydantic import TypeAdapter, ValidationError

from lamella.errors import LeaseError


@dataclass(frozen=True)
class Amount:
    """So much of what is leased.

    Attributes
    ----------
    units
        Of concurrency: workers that run at the same time.
    slots
        Deployed queues of the channel sns.
    """

    units: int
    slots: int = 0

    def __str__(self) -> str:
        units = f"{self.units} unit{'s' if self.units != 1 else ''} of concurrency"
        return f"{units} and {self.slots} slots" if self.slots else units

    def fits(self, room: Amount) -> bool:
        """Whether it is no more than there is."""
        return self.units <= room.units and (not self.slots or self.slots <= room.slots)


@dataclass(frozen=True)
class Hold:
    """Whose a slot is, and until when (Unix time)."""

    run: str
    until_s: float


@dataclass(frozen=True)
class Units:
    """How much concurrency a run holds, until when (Unix time), and how it had waited for it."""

    count: int
    until_s: float
    waited_s: float = 0.0
    looks: int = 0


@dataclass(frozen=True)
class Place:
    """A run's place in line: what it waits for, since when, and until when it is kept (Unix times).

    ``looks`` counts how often it has been told to wait.
    """

    run: str
    units: int
    slots: int
    since_s: float
    until_s: float
    looks: int = 1

    @property
    def want(self) -> Amount:
        return Amount(self.units, self.slots)


@dataclass(frozen=True)
class Table:
    """Slots that are held, by number, and units, by run; and the line of those that wait."""

    slots: Mapping[int, Hold] = field(default_factory=dict)
    units: Mapping[str, Units] = field(default_factory=dict)
    line: tuple[Place, ...] = ()

    def slots_of(self, run: str) -> tuple[int, ...]:
        return tuple(sorted(slot for slot, hold in self.slots.items() if hold.run == run))

    def place_of(self, run: str) -> Place | None:
        return next((place for place in self.line if place.run == run), None)

    @property
    def runs(self) -> frozenset[str]:
        """Those that hold something, or wait."""
        slots, line = (hold.run for hold in self.slots.values()), (place.run for place in self.line)
        return frozenset([*slots, *self.units, *line])


@dataclass(frozen=True)
class Granted:
    """What a run got, how long it had waited for it, and how often it had been told to."""

    slots: tuple[int, ...]
    waited_s: float = 0.0
    looks: int = 0


@dataclass(frozen=True)
class Short:
    """Why a run got nothing yet.

    Attributes
    ----------
    free
        What nobody holds.
    ahead
        Runs before it in line.
    waited_s
        How long it has been in line.
    """

    free: Amount
    ahead: int
    waited_s: float


def ask(
    table: Table, run: str, want: Amount, room: Amount, now_s: float, until_s: float
) -> tuple[Table, Granted | Short]:
    """What becomes of a run that asks for an amount, or asks again; all times are Unix times.

    One that holds as much already keeps it, until the new time.

    Parameters
    ----------
    room
        What there is, whoever holds it.
    until_s
        When what it gets expires.

    Returns
    -------
    Table, Granted
        With what it got, and its place in line left.
    Table, Short
        As it was, but for what had expired: `waiting` puts the run in line.
    """
    table = _without_expired(table, run, now_s)
    mine, held, place = table.slots_of(run), table.units.get(run), table.place_of(run)
    since_s = place.since_s if place else now_s
    waited_s = held.waited_s if held else now_s - since_s
    looks = held.looks if held else place.looks if place else 0
    if held is None or held.count < want.units or len(mine) < want.slots:
        ahead = table.line[: table.line.index(place)] if place else table.line
        open_slots = [slot for slot in range(room.slots) if slot not in table.slots or slot in mine]
        taken = sum(units.count for other, units in table.units.items() if other != run)
        free = Amount(room.units - taken, len(open_slots))
        left = Amount(
            free.units - sum(other.units for other in ahead), free.slots - sum(other.slots for other in ahead)
        )
        if not want.fits(left):
            return table, Short(free, len(ahead), now_s - since_s)
        more = [slot for slot in open_slots if slot not in mine]
        mine = (*mine, *more[: max(want.slots - len(mine), 0)])
    count = max(want.units, held.count if held else 0)
    after = Table(
        {**table.slots, **{slot: Hold(run, until_s) for slot in mine}},
        {**table.units, run: Units(count, until_s, waited_s, looks)},
        _others(table.line, run),
    )
    return after, Granted(tuple(sorted(mine))[: want.slots], waited_s, looks)


def waiting(table: Table, run: str, want: Amount, now_s: float, until_s: float) -> Table:
    """With a run in line: at its end, or where it is, its place then kept until a time."""
    had = table.place_of(run)
    if had is None:
        return replace(table, line=(*table.line, Place(run, want.units, want.slots, now_s, until_s)))
    renewed = replace(had, units=want.units, slots=want.slots, until_s=until_s, looks=had.looks + 1)
    return replace(table, line=tuple(renewed if place is had else place for place in table.line))


def without(table: Table, run: str) -> Table:
    """Without anything of a run."""
    return Table(
        {slot: hold for slot, hold in table.slots.items() if hold.run != run},
        {other: units for other, units in table.units.items() if other != run},
        _others(table.line, run),
    )


def expiring(table: Table, run: str, until_s: float) -> Table:
    """With what a run holds expiring at a time, if not before; it waits for nothing more."""
    return Table(
        {
            slot: Hold(run, min(until_s, hold.until_s)) if hold.run == run else hold
            for slot, hold in table.slots.items()
        },
        {
            other: replace(units, until_s=min(until_s, units.until_s)) if other == run else units
            for other, units in table.units.items()
        },
        _others(table.line, run),
    )


def _others(line: Iterable[Place], run: str) -> tuple[Place, ...]:
    return tuple(place for place in line if place.run != run)


def _without_expired(table: Table, run: str, now_s: float) -> Table:
    """What a run still has though its time is over is its own, as long as nobody took it."""
    return Table(
        {slot: hold for slot, hold in table.slots.items() if hold.until_s > now_s or hold.run == run},
        {other: units for other, units in table.units.items() if units.until_s > now_s or other == run},
        tuple(place for place in table.line if place.until_s > now_s or place.run == run),
    )


_TABLE = TypeAdapter(Table)


def table_to_json(table: Table, nonce: str) -> bytes:
    """The table as it is stored; the nonce makes every version's ETag its own, also that of equal tables."""
    return json.dumps({"nonce": nonce, **_TABLE.dump_python(table, mode="json")}).encode()


def table_from_json(data: bytes, where: str) -> Table:
    """Read what `table_to_json` wrote, or an earlier version that had slots alone.

    Raises
    ------
    LeaseError
        If it is something else.
    """
    try:
        found = json.loads(data)
        return _TABLE.validate_python({"slots": found["slots"], **_known(found)})
    except (ValueError, KeyError, TypeError, RecursionError, ValidationError) as error:
        raise LeaseError(f"{where} is damaged: delete it while no run is on") from error


def _known(found: Mapping[str, object]) -> dict[str, object]:
    return {name: found[name] for name in ("units", "line") if name in found}

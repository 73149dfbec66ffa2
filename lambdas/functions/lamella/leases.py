"""A run's hold on slots and concurrency: one object, changed only by conditional writes.

The object is made once (If-None-Match) and never deleted; every change is a PUT with If-Match, so that of two
runs that want the same thing one has to look again. What is done twice, because an answer was lost, changes
nothing the second time.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from botocore.exceptions import ClientError

from lamella.errors import LeaseError
from lamella.layout import SLOT_LEASES
from lamella.lease_table import (
    Amount,
    Granted,
    Short,
    Table,
    ask,
    expiring,
    table_from_json,
    table_to_json,
    waiting,
    without,
)

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_TRIES = 60
_LONGEST_PAUSE_S = 1.0
# Between two looks of a run that waits: each is a look of Plan's, and two transitions of the state machine.
SHORTEST_LOOK_S, LONGEST_LOOK_S = 3, 20
PLACE_S = 90.0  # how long after its next look a run's place in line is kept
_T = TypeVar("_T")


class NotYet(LeaseError):
    """A run has to wait for its turn: it is in line, and is to ask again after ``wait_s`` seconds."""

    def __init__(self, text: str, wait_s: int) -> None:
        super().__init__(text)
        self.wait_s = wait_s


@dataclass(frozen=True)
class Terms:
    """On what terms a run asks.

    Attributes
    ----------
    room
        What there is, whoever holds it.
    until_s
        Unix time at which what it gets expires.
    wait_s
        How long it may wait in line; 0 not at all.
    """

    room: Amount
    until_s: float
    wait_s: float = 0.0


class Leases:
    """What one stack leases.

    Parameters
    ----------
    clock, sleep
        Unix time; and how to wait between two tries.
    """

    def __init__(
        self, s3: S3Client, bucket: str, clock: Callable[[], float], sleep: Callable[[float], None]
    ) -> None:
        self._s3, self._bucket, self._clock, self._sleep = s3, bucket, clock, sleep

    def take(self, run: str, want: Amount, terms: Terms) -> Granted:
        """Hold all that is wanted until a time; again for the same run gives the same.

        Raises
        ------
        NotYet
            If it isn't to be had now; the run is in line then.
        LeaseError
            If it could never be had, if the run has waited as long as it may, or if others keep changing
            the lease. The run is not in line then.
        """
        if not want.fits(terms.room):
            self.release(run)
            raise LeaseError(f"{want} can't be had: there are {terms.room} in all")

        def change(table: Table) -> tuple[Table, Granted | Short]:
            now_s = self._clock()
            after, answer = ask(table, run, want, terms.room, now_s, terms.until_s)
            if isinstance(answer, Short):
                look_s = next_look_s(answer.waited_s, terms.wait_s)
                if not look_s:
                    return without(after, run), answer
                after = waiting(after, run, want, now_s, now_s + look_s + PLACE_S)
            return after, answer

        answer = self._change(change)
        if isinstance(answer, Granted):
            return answer
        short = (
            f"{answer.free.units} of {terms.room.units} units of concurrency and {answer.free.slots} of "
            f"{terms.room.slots} slots are free, {answer.ahead} runs are before it in line"
        )
        if look_s := next_look_s(answer.waited_s, terms.wait_s):
            raise NotYet(f"run {run} waits for {want}: {short}", look_s)
        raise LeaseError(
            f"{want} could not be had within {answer.waited_s:.0f} s: {short}: start again when other runs "
            "have ended, or deploy with a longer LeaseWait, more SlotGroups or a higher quota of executions"
        )

    def turn(self, run: str, terms: Terms) -> Granted | None:
        """What a run holds that has had its turn, perhaps just now; None for one that is not in line.

        Raises
        ------
        NotYet, LeaseError
            As `take`.
        """
        table, _ = self._read()
        if place := table.place_of(run):
            return self.take(run, place.want, terms)
        held = table.units.get(run)
        return Granted(table.slots_of(run), held.waited_s, held.looks) if held else None

    def held(self, run: str) -> tuple[int, ...]:
        """The slots of a run."""
        table, _ = self._read()
        return table.slots_of(run)

    def runs(self) -> frozenset[str]:
        """Those that hold something, or wait, expired or not."""
        table, _ = self._read()
        return table.runs

    def keep(self, run: str, until_s: float) -> None:
        """Let what a run holds expire at a time, if not before."""
        self._change(lambda table: (expiring(table, run, until_s), None))

    def release(self, run: str) -> None:
        """Give back what a run holds, and its place in line; nothing if it has nothing."""
        self._change(lambda table: (without(table, run), None))

    def _read(self) -> tuple[Table, str | None]:
        try:
            answer = self._s3.get_object(Bucket=self._bucket, Key=SLOT_LEASES)
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") in {"NoSuchKey", "404"}:
                return Table(), None
            raise
        return table_from_json(answer["Body"].read(), f"s3://{self._bucket}/{SLOT_LEASES}"), answer["ETag"]

    def _change(self, change: Callable[[Table], tuple[Table, _T]]) -> _T:
        for attempt in range(_TRIES):
            old, tag = self._read()
            new, answer = change(old)
            if new == old:
                return answer
            body = table_to_json(new, secrets.token_hex(8))
            try:
                if tag is None:
                    self._s3.put_object(Bucket=self._bucket, Key=SLOT_LEASES, Body=body, IfNoneMatch="*")
                else:
                    self._s3.put_object(Bucket=self._bucket, Key=SLOT_LEASES, Body=body, IfMatch=tag)
            except ClientError as error:
                # 412: someone else was first; 409: someone is writing now.
                if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") not in {409, 412}:
                    raise
                self._sleep(min(_LONGEST_PAUSE_S, 0.02 * 2**attempt) * (0.5 + secrets.randbelow(100) / 100))
                continue
            return answer
        raise LeaseError(
            f"s3://{self._bucket}/{SLOT_LEASES} could not be changed in {_TRIES} tries: start again"
        )


def next_look_s(waited_s: float, wait_s: float) -> int:
    """In how many seconds a run that waits looks again; 0 if it has waited as long as it may."""
    left_s = wait_s - waited_s
    if left_s <= 0:
        return 0
    return math.ceil(min(max(SHORTEST_LOOK_S, waited_s / 10), LONGEST_LOOK_S, left_s))

"""A run's hold on slots: one object, changed only by conditional writes.

The object is made once (If-None-Match) and never deleted; every change is a PUT with If-Match, so that of two
runs that want the same slot one has to look again. A hold ends by being released, or at its own expiry.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError
from pydantic import TypeAdapter, ValidationError

from lamella.errors import LeaseError
from lamella.layout import SLOT_LEASES

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_TRIES = 40


@dataclass(frozen=True)
class Hold:
    """Whose a slot is, and until when (Unix time)."""

    run: str
    until_s: float


Holds = Mapping[int, Hold]
_TABLE = TypeAdapter(dict[int, Hold])


def allocate(holds: Holds, run: str, count: int, slots: int, now_s: float, until_s: float) -> Holds:
    """Holds after ``run`` took ``count`` slots, all or none; what it holds already counts.

    Raises
    ------
    LeaseError
        If too few are free.
    """
    kept = {slot: hold for slot, hold in holds.items() if hold.until_s > now_s or hold.run == run}
    mine = [slot for slot, hold in kept.items() if hold.run == run]
    free = [slot for slot in range(slots) if slot not in kept]
    missing = count - len(mine)
    if missing > len(free):
        raise LeaseError(
            f"{count} slots are needed and {len(free)} of {slots} are free: "
            "start again when other runs have ended, or deploy more (parameter SlotGroups)"
        )
    taken = mine + free[: max(missing, 0)]
    return kept | {slot: Hold(run, until_s) for slot in taken}


class SlotLeases:
    """The slots of one stack.

    Parameters
    ----------
    clock, sleep
        Unix time; and how to wait between two tries.
    """

    def __init__(
        self, s3: S3Client, bucket: str, clock: Callable[[], float], sleep: Callable[[float], None]
    ) -> None:
        self._s3, self._bucket, self._clock, self._sleep = s3, bucket, clock, sleep

    def take(self, run: str, count: int, slots: int, until_s: float) -> tuple[int, ...]:
        """Hold ``count`` of ``slots`` until a time; again for the same run gives the same.

        Raises
        ------
        LeaseError
            If too few are free, or others keep changing the lease.
        """
        holds = self._change(lambda old: allocate(old, run, count, slots, self._clock(), until_s))
        return tuple(sorted(slot for slot, hold in holds.items() if hold.run == run))[:count]

    def held(self, run: str) -> tuple[int, ...]:
        """The slots of a run."""
        holds, _ = self._read()
        return tuple(sorted(slot for slot, hold in holds.items() if hold.run == run))

    def keep(self, run: str, until_s: float) -> None:
        """Let what a run holds expire at a time, if not before."""
        self._change(
            lambda old: {
                slot: Hold(run, min(until_s, hold.until_s)) if hold.run == run else hold
                for slot, hold in old.items()
            }
        )

    def release(self, run: str) -> None:
        """Give back what a run holds; nothing if it holds nothing."""
        if self.held(run):
            self._change(lambda old: {slot: hold for slot, hold in old.items() if hold.run != run})

    def _read(self) -> tuple[Holds, str | None]:
        try:
            answer = self._s3.get_object(Bucket=self._bucket, Key=SLOT_LEASES)
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") in {"NoSuchKey", "404"}:
                return {}, None
            raise
        try:
            table: Holds = _TABLE.validate_python(json.loads(answer["Body"].read())["slots"])
        except (ValueError, KeyError, TypeError, RecursionError, ValidationError) as error:
            raise LeaseError(
                f"s3://{self._bucket}/{SLOT_LEASES} is damaged: delete it while no run is on"
            ) from error
        return table, answer["ETag"]

    def _change(self, change: Callable[[Holds], Holds]) -> Holds:
        for attempt in range(_TRIES):
            old, tag = self._read()
            new = change(old)
            # The nonce makes every version's ETag its own, also that of equal tables.
            table = {slot: {"run": hold.run, "until_s": hold.until_s} for slot, hold in sorted(new.items())}
            body = json.dumps({"nonce": secrets.token_hex(8), "slots": table}).encode()
            try:
                if tag is None:
                    self._s3.put_object(Bucket=self._bucket, Key=SLOT_LEASES, Body=body, IfNoneMatch="*")
                else:
                    self._s3.put_object(Bucket=self._bucket, Key=SLOT_LEASES, Body=body, IfMatch=tag)
            except ClientError as error:
                # 412: someone else was first; 409: someone is writing now.
                if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") not in {409, 412}:
                    raise
                self._sleep(min(1.0, 0.02 * 2**attempt) * (0.5 + secrets.randbelow(100) / 100))
                continue
            return new
        raise LeaseError(
            f"s3://{self._bucket}/{SLOT_LEASES} could not be changed in {_TRIES} tries: start again"
        )

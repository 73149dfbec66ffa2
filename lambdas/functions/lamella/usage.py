"""What a run used of each service: calls, billed units and bytes, by operation.

=========================  ===========================================================================
operation                  billed units
=========================  ===========================================================================
``lambda.invoke``          GB-seconds, INIT included; each call also pays the request fee
``stepfunctions.transition``  states entered
``sns.publish`` ...        requests: one for each 64 KiB of payload begun, at least one
``sqs.receive_message`` ...  the same
``s3.put_object`` ...      requests; a DELETE is free
=========================  ===========================================================================
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lamella.errors import MessageError
from lamella.launch import is_distributed

BILLED_CHUNK_BYTES = 64 * 1024
INVOKE = "lambda.invoke"
TRANSITION = "stepfunctions.transition"
# Plan, Launch, a Map, Collect, Finish: the states of inference.asl.json that a good run enters once.
_SINGLE_STATES = 5
_STATES_A_LOOK = 3  # WaitForTurn, Plan, Launch


@dataclass(frozen=True)
class Count:
    """How often one operation was called, what it is billed for, and the payload bytes it carried."""

    calls: int = 0
    billed: float = 0
    bytes: int = 0

    def __add__(self, other: Count) -> Count:
        return Count(self.calls + other.calls, self.billed + other.billed, self.bytes + other.bytes)


@dataclass(frozen=True)
class Usage:
    """Counts by ``service.operation``, the operation as boto3 spells its method; merged with ``+``."""

    counts: Mapping[str, Count] = field(default_factory=dict)

    def __add__(self, other: Usage) -> Usage:
        return merge((self, other))

    def count(self, operation: str) -> Count:
        """Of one operation; zeros if it was never called."""
        return self.counts.get(operation, Count())

    def to_json(self) -> dict[str, dict[str, float]]:
        """As it stands in a run's summary, ordered by name."""
        return {
            name: {"calls": count.calls, "billed": count.billed, "bytes": count.bytes}
            for name, count in sorted(self.counts.items())
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Usage:
        """Read what `to_json` wrote.

        Raises
        ------
        MessageError
            If it is something else.
        """
        counts: dict[str, Count] = {}
        for name, given in data.items():
            fields = given if isinstance(given, Mapping) else {}
            numbers: list[Any] = [fields.get(key) for key in ("calls", "billed", "bytes")]
            sound = len(fields) == len(numbers) and all(_is_amount(number) for number in numbers)
            if not sound or numbers[0] != int(numbers[0]) or numbers[2] != int(numbers[2]):
                raise MessageError(f"usage of {name} is no count of calls, billed and bytes: {given!r}")
            calls, billed, size = (_whole(fields[key]) for key in ("calls", "billed", "bytes"))
            counts[name] = Count(int(calls), billed, int(size))
        return cls(counts)


def merge(usages: Iterable[Usage]) -> Usage:
    """The sum of several, exact whatever their order but for GB-seconds' last bits."""
    counts: dict[str, Count] = {}
    for usage in usages:
        for name, count in usage.counts.items():
            counts[name] = counts.get(name, Count()) + count
    return Usage(counts)


def billed_requests(payload_bytes: int) -> int:
    """Requests that SNS and SQS bill for one call: a call's payload counts whole, not entry by entry."""
    return max(1, -(-payload_bytes // BILLED_CHUNK_BYTES))


def lambda_usage(duration_s: float, memory_mb: int, init_s: float = 0.0) -> Usage:
    """One invocation, as Lambda bills it.

    Parameters
    ----------
    duration_s, init_s
        Of the handler, and of the INIT phase where the invocation was a cold start: both are billed, rounded
        up to the millisecond (https://aws.amazon.com/lambda/pricing/).
    memory_mb
        The function's memory, MiB; a GB-second is 1,024 MiB for a second.
    """
    # Seconds carry float noise: 0.1 + 0.2 must bill 300 ms, not 301.
    billed_ms = math.ceil(round((duration_s + init_s) * 1000, 6))
    return Usage({INVOKE: Count(calls=1, billed=billed_ms / 1000 * memory_mb / 1024)})


def step_functions_usage(workers: int, looks: int = 0) -> Usage:
    """State transitions of a good run: a Standard workflow is billed for every state it enters, a Map's too.

    So are the executions that a Distributed Map starts, whose starts count one each besides. A retry is one
    more (https://aws.amazon.com/step-functions/pricing/); it is not foreseen here.

    Parameters
    ----------
    looks
        How often the run was told to wait for its turn.
    """
    entered = _SINGLE_STATES + _STATES_A_LOOK * looks + workers * (2 if is_distributed(workers) else 1)
    return Usage({TRANSITION: Count(calls=entered, billed=entered)})


def _whole(amount: float) -> float:
    """An int where it is one: some writers of JSON make 3.0 of 3."""
    return int(amount) if float(amount).is_integer() else amount


def _is_amount(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < math.inf

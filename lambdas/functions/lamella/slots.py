"""Slots: deployed queues for workers, numbered from 0. template.yaml makes groups of them."""

from __future__ import annotations

SLOTS_A_GROUP = 8


def slot_name(slot: int) -> str:
    """What the slot's queue and its subscription's filter call it: its group, and its place there."""
    return "{}-{}".format(*divmod(slot, SLOTS_A_GROUP))


def slots_of(groups: str) -> int:
    """How many slots there are in deployed groups, ``0,1,2``.

    Raises
    ------
    ValueError
        If the groups aren't numbered 0, 1, 2 and so on: slots would have gaps.
    """
    numbers = [number.strip() for number in groups.split(",") if number.strip()]
    if numbers != [str(group) for group in range(len(numbers))]:
        raise ValueError(f"groups of slots are numbered 0,1,2 and so on, without a gap; these are {groups}")
    return SLOTS_A_GROUP * len(numbers)

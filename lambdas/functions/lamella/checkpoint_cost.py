"""What checkpoints cost at most, as a plan says it: pure arithmetic."""

from __future__ import annotations

from lamella.abort import LOOK_EVERY_S
from lamella.checkpointer import CHECKPOINT_S
from lamella.cost import PriceBook, cost
from lamella.records import CheckpointCost
from lamella.usage import Count, Usage


def checkpoint_cost(workers: int, seconds: float, book: PriceBook) -> CheckpointCost:
    """Their most.

    Parameters
    ----------
    seconds
        Until the run's deadline.
    """
    each_second = _priced(Usage({"s3.put_object": _so_many(workers / CHECKPOINT_S)}), book) + _priced(
        # Whether another start has taken over, as often as whether the run is over.
        Usage({"s3.head_object": _so_many(workers / LOOK_EVERY_S)}),
        book,
    )
    # At its end each worker looks twice more.
    last = _priced(Usage({"s3.head_object": _so_many(2 * workers)}), book)
    return CheckpointCost(CHECKPOINT_S, each_second, each_second * seconds + last)


def _so_many(requests: float) -> Count:
    return Count(billed=requests)


def _priced(usage: Usage, book: PriceBook) -> float:
    return cost(usage, book)["total"]

"""Which runs `benchmarks.exact` compares: strategy x channel x workers x micro-batches, on two networks."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import get_args

from lamella.plan import StrategyName

OFFICIAL, MIXED, WIDE = "radixnet:1024x120", "mixed", "radixnet:1024x24"
ALONE: tuple[StrategyName, ...] = ("serial", "samples")
TALKING = tuple(name for name in get_args(StrategyName) if name not in ALONE)
CHANNELS = ("sns", "sqs", "s3")
WORKERS = (2, 3, 8)
# Up to 40 are launched by an inline Map, more by a Distributed Map.
WIDE_WORKERS = (20, 64)
MICRO_BATCHES = (1, 2)
NO_CHANNEL = "none"


@dataclass(frozen=True)
class Cell:
    """One run."""

    network: str
    strategy: str
    channel: str
    workers: int
    micro_batches: int

    def __str__(self) -> str:
        over = "" if self.channel == NO_CHANNEL else f" over {self.channel}"
        parts = f"{self.workers} workers, {self.micro_batches} micro-batches"
        return f"{self.network}: {self.strategy}{over}, {parts}"


def full_grid() -> list[Cell]:
    """Every cell; one worker is ``serial``, whatever the strategy."""
    cells = []
    for network in (OFFICIAL, MIXED):
        cells += [Cell(network, "serial", NO_CHANNEL, 1, parts) for parts in MICRO_BATCHES]
        cells += [
            Cell(network, "samples", NO_CHANNEL, workers, parts)
            for workers in WORKERS
            for parts in MICRO_BATCHES
        ]
        cells += [
            Cell(network, strategy, channel, workers, parts)
            for strategy in TALKING
            for channel in CHANNELS
            for workers in WORKERS
            for parts in MICRO_BATCHES
        ]
    return cells + [
        Cell(WIDE, "rows", channel, workers, 1) for workers in WIDE_WORKERS for channel in CHANNELS
    ]


def quick_grid() -> list[Cell]:
    """Some cells of `full_grid`: of what talks, every strategy with every channel and number of workers.

    Numbers of workers are dealt as in a Latin square, so that each channel, too, meets each of them, and the
    square is another for each network.
    """
    cells = []
    for n, network in enumerate((OFFICIAL, MIXED)):
        cells.append(Cell(network, "serial", NO_CHANNEL, 1, MICRO_BATCHES[n]))
        cells.append(Cell(network, "samples", NO_CHANNEL, WORKERS[1 + n], MICRO_BATCHES[1 - n]))
        for s, strategy in enumerate(TALKING):
            for c, channel in enumerate(CHANNELS):
                workers = WORKERS[(s + c + n + 1) % len(WORKERS)]
                # Two micro-batches wherever two talk: there a halo can be in flight.
                parts = MICRO_BATCHES[(s + c + n) % len(MICRO_BATCHES)]
                cells.append(Cell(network, strategy, channel, workers, parts))
    return cells


def chosen(
    cells: Sequence[Cell],
    *,
    networks: Collection[str] | None = None,
    strategies: Collection[str] | None = None,
    channels: Collection[str] | None = None,
    workers: Collection[int] | None = None,
    micro_batches: Collection[int] | None = None,
) -> list[Cell]:
    """Those that have one of the values named, of each kind of which some are named."""

    def kept(cell: Cell) -> Iterator[bool]:
        yield not networks or cell.network in networks
        yield not strategies or cell.strategy in strategies
        yield not channels or cell.channel in channels
        yield not workers or cell.workers in workers
        yield not micro_batches or cell.micro_batches in micro_batches

    return [cell for cell in cells if all(kept(cell))]

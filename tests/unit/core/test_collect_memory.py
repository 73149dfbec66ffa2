"""What Collect may need is known before anything is launched."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lamella.collect_memory import COLLECT_MEMORY_MB, check_collect, collect_need_bytes
from lamella.errors import PlanError
from lamella.records import Share

MOST_BYTES = COLLECT_MEMORY_MB << 20


def by_rows(workers: int, outputs: int, samples: int) -> list[Share]:
    return [
        Share((w * outputs // workers, (w + 1) * outputs // workers), (0, samples)) for w in range(workers)
    ]


def by_samples(workers: int, outputs: int, samples: int) -> list[Share]:
    return [
        Share((0, outputs), (w * samples // workers, (w + 1) * samples // workers)) for w in range(workers)
    ]


@pytest.mark.parametrize("workers", [1, 8, 200, 1000])
@pytest.mark.parametrize("shares", [by_rows, by_samples])
@pytest.mark.parametrize("dealt", [False, True])
def test_wide_outputs_of_any_gang_fit(
    workers: int, shares: Callable[[int, int, int], list[Share]], dealt: bool
) -> None:
    for outputs in (1024, 65_536):
        check_collect(shares(workers, outputs, 10_000), outputs, 10_000, dealt=dealt)


def test_more_samples_need_no_more_but_their_numbers() -> None:
    few, many = (
        collect_need_bytes(by_rows(8, 4096, samples), 4096, samples, activations=False)
        for samples in (10_000, 10_000_000)
    )

    assert many - few == 8 * (10_000_000 - 10_000)


def test_samples_of_other_workers_are_not_held_where_nothing_is_dealt() -> None:
    shares, outputs = by_samples(200, 1 << 20, 10_000), 1 << 20

    assert collect_need_bytes(shares, outputs, 10_000) <= MOST_BYTES
    assert collect_need_bytes(shares, outputs, 10_000, dealt=True) > MOST_BYTES


def test_what_does_not_fit_is_refused_in_one_line() -> None:
    outputs = 1 << 25
    told = (
        r"^to put 33,554,432 outputs x 10 samples of 8 workers together takes 3,... MB, and Collect has "
        r"1,769: ask for fewer workers or strategy rows, give fewer samples$"
    )
    with pytest.raises(PlanError, match=told):
        check_collect(by_rows(8, outputs, 10), outputs, 10, activations=False)


def test_activations_that_no_object_holds_are_refused_only_where_asked_for() -> None:
    outputs, samples = 1 << 20, 1 << 21
    with pytest.raises(PlanError, match="more than the 5 TiB that an S3 object holds: give fewer samples"):
        check_collect(by_rows(8, outputs, samples), outputs, samples)
    check_collect(by_rows(8, outputs, samples), outputs, samples, activations=False)

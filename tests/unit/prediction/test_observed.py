"""What a run showed is what the next prediction assumes."""

from __future__ import annotations

import pytest

from lamella.errors import MessageError
from lamella.plan import Plan, Range
from lamella.prediction import Activity
from lamella.prediction.analytic import Shape, butterfly_halo, rows_workload
from lamella.prediction.observed import (
    activity_from_json,
    activity_to_json,
    observed_activity,
    with_letters,
)
from lamella.records import PlanRecord, Share, WorkerReport
from lamella.usage import Count, Usage


def record(plan: Plan, shares: list[Range]) -> PlanRecord:
    parts = tuple(Share((0, 1), samples) for samples in shares)
    return PlanRecord("r", 1, {}, plan, "s3://b/m/", 0, 0.0, 1.0, parts, {})


def report(worker: int, *steps: tuple[int, int]) -> WorkerReport:
    """Steps by their last layer and what lived."""
    walked = tuple((layer, 0.0, 0.0, 0.0, 0.0, live) for layer, live in steps)
    return WorkerReport(worker, 0.0, 0.0, 1.0, 1024, walked, (1, "log"), {})


def test_of_workers_that_share_samples_the_one_that_saw_most() -> None:
    plan = Plan("rows", "sqs", 2, 1024, 100)
    reports = [report(0, (0, 50), (1, 10)), report(1, (0, 40), (1, 20))]
    assert observed_activity(record(plan, [(0, 100)] * 2), reports, 2).live == (1.0, 0.5, 0.2)


def test_shares_and_micro_batches_add_up() -> None:
    plan = Plan("samples", "none", 2, 1024, 100, 2)
    reports = [report(0, (0, 10), (0, 15), (1, 5), (1, 5)), report(1, (0, 25), (0, 0), (1, 0), (1, 10))]
    found = observed_activity(record(plan, [(0, 50), (50, 100)]), reports, 2)
    assert found.live == (1.0, 0.5, 0.2)
    assert "run r" in found.name


def test_between_steps_it_is_interpolated() -> None:
    plan = Plan("serial", "none", 1, 1024, 100)
    found = observed_activity(record(plan, [(0, 100)]), [report(0, (3, 60), (4, 60))], 5)
    assert found.live == pytest.approx((1.0, 0.9, 0.8, 0.7, 0.6, 0.6))


def test_letters_tell_what_an_activation_takes() -> None:
    shape, plan = Shape(1024, 6), Plan("rows", "sqs", 4, 1024, 100)
    halo = butterfly_halo(1024, 4)
    true, assumed = (Activity("test", (1.0,) * 7, each) for each in (0.5, 2.0))
    load = rows_workload(shape, plan, true, halo)
    header = 44
    sent = int(load.links.bytes.sum()) + header * len(load.links.bytes)
    usage = Usage({"sqs.send_message_batch": Count(1, 1, sent)})
    found = with_letters(assumed, rows_workload(shape, plan, assumed, halo), usage)
    assert found.cell_bytes == pytest.approx(0.5, rel=0.02)
    assert with_letters(assumed, load, Usage()) == assumed


def test_it_comes_back_as_it_was_written() -> None:
    activity = Activity("test", (1.0, 0.5, 0.25), 0.1, 0.2)
    assert activity_from_json(activity_to_json(activity), "x", 2) == activity
    with pytest.raises(MessageError, match="a model with 3 layers"):
        activity_from_json(activity_to_json(activity), "x", 3)
    with pytest.raises(MessageError, match="is no activity"):
        activity_from_json(b"{}", "x", 2)

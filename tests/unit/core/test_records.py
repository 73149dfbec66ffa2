"""What states leave for each other is read back whole, or refused."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load

from lamella.activations import Activations
from lamella.errors import LamellaError, RunError
from lamella.plan import Assignment, LayerPart, Link, Plan, SnsAddress, Step, Task, parse_assignment
from lamella.records import (
    PlanRecord,
    Share,
    WorkerReport,
    from_json,
    part_from_bytes,
    part_to_bytes,
    to_json,
)
from lamella.sealing import with_own_write
from lamella.states.collect import activations_file, merge, predictions_csv
from lamella.usage import Count, Usage

REPORT = WorkerReport(3, 1.0, 2.0, 3.0, 1024, ((0, 0.1, 0.2, 0.3, 0.4, 5),), (17, "stream"), {})


def assignment() -> Assignment:
    link = Link(2, np.array([5, 9, 70_000]))
    first = Step((LayerPart(0, (0, 4), (0, 9), "a" * 64),), (0, 10), (), (link,))
    second = Step((LayerPart(1, (4, 8), (9, 30), "b" * 64),), (0, 10), (Link(0, np.array([1])),), ())
    task = Task(1, (0, 10), np.array([0, 7]), (first, second), (3, 9))
    address = SnsAddress("arn:topic", (4, 9), ("https://q4", "https://q9"))
    return Assignment("run-1", 2, 2, "s3://b/m/", "c" * 64, address, 12.5, task)


def test_an_assignment_is_read_as_it_was_written() -> None:
    given = assignment()
    got = parse_assignment(given.to_bytes(), "task")
    assert replace(got, task=given.task) == given
    assert [list(step.parts) for step in got.task.steps] == [list(step.parts) for step in given.task.steps]
    for mine, theirs in zip(got.task.steps, given.task.steps, strict=True):
        for kind in ("receive", "send"):
            for a, b in zip(getattr(mine, kind), getattr(theirs, kind), strict=True):
                assert a.peer == b.peer
                assert a.rows.tolist() == b.rows.tolist()
    assert got.task.features is not None
    assert got.task.features.tolist() == [0, 7]


@pytest.mark.parametrize("data", [b"", b"junk", b"\x08\0\0\0\0\0\0\0{}      "])
def test_what_is_no_assignment_is_refused(data: bytes) -> None:
    with pytest.raises(RunError, match=r"is not a worker.s task"):
        parse_assignment(data, "runs/1/tasks/0")


def test_a_part_is_read_as_it_was_written_and_only_for_the_planned_share() -> None:
    output = Activations(np.array([11, 13]), np.array([[1, 2], [0, 3]], np.float32))
    share = Share((4, 6), (10, 20))
    data = part_to_bytes(output, share, REPORT)
    back, report = part_from_bytes(data, share, "part")
    assert report == REPORT
    assert back.live.tolist() == [11, 13]
    assert back.values.tolist() == [[1, 2], [0, 3]]
    with pytest.raises(LamellaError):
        part_from_bytes(data, Share((4, 7), (10, 20)), "part")
    with pytest.raises(RunError, match="no part of an output"):
        part_from_bytes(data[:-1], share, "part")


def test_a_record_of_another_kind_is_refused() -> None:
    with pytest.raises(RunError, match=r"plan.json is no PlanRecord"):
        from_json(PlanRecord, to_json(REPORT), "plan.json")


def test_a_record_counts_the_request_that_writes_it() -> None:
    before = Usage({"s3.put_object": Count(9, 9, 95), "s3.get_object": Count(1, 1, 7)})
    body = with_own_write(before, lambda usage: json.dumps(usage.to_json()).encode())
    stated = json.loads(body)
    assert stated["s3.put_object"] == {"calls": 10, "billed": 10, "bytes": 95 + len(body)}
    assert stated["s3.get_object"]["calls"] == 1


def record(shares: tuple[Share, ...], samples: int) -> PlanRecord:
    plan = Plan("rows", "sns", len(shares), 1024, samples)
    return PlanRecord("run", 1, {}, plan, "s3://b/m/", 1, 0.0, 0.0, shares, {})


def test_parts_are_merged_into_the_sources_order() -> None:
    top = Activations(np.array([0, 2]), np.array([[1, 2]], np.float32))
    bottom = Activations(np.array([2, 3]), np.array([[3, 4], [5, 6]], np.float32))
    merged = merge(
        [top, bottom], record((Share((0, 1), (0, 5)), Share((1, 3), (0, 5))), 5), np.array([2, 0, 1])
    )
    assert merged.live.tolist() == [0, 2, 3]
    assert merged.values.tolist() == [[0, 3, 4], [0, 5, 6], [1, 2, 0]]


def test_predictions_name_every_sample_in_the_inputs_counting() -> None:
    output = Activations(np.array([1]), np.array([[0.1], [3.5], [3.5]], np.float32))
    lines = predictions_csv(output, 3, 1).decode().splitlines()
    assert lines == ["sample,argmax,score,nonzero", "1,0,0.0,0", "2,1,3.5,3", "3,0,0.0,0"]


def test_scores_are_written_so_that_they_read_back_the_same() -> None:
    score = np.float32(0.1) * np.float32(3)
    (line,) = (
        predictions_csv(Activations(np.array([0]), np.array([[score]], np.float32)), 1, 0)
        .decode()
        .split()[1:]
    )
    assert np.float32(line.split(",")[2]) == score


def test_activations_are_samples_by_outputs() -> None:
    output = Activations(np.array([1]), np.array([[2], [3]], np.float32))
    assert load(activations_file(output, 2))["activations"].tolist() == [[0, 0], [2, 3]]

"""What states leave for each other is read back whole, or refused."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load, save

from lamella.errors import RunError
from lamella.plan import Assignment, LayerPart, Link, Range, SnsAddress, Step, Task, parse_assignment
from lamella.records import PlanRecord, from_json, to_json
from lamella.sealing import with_own_write
from lamella.tensors import metadata
from lamella.usage import Count, Usage
from tests.parts import REPORT


def assignment() -> Assignment:
    link = Link(2, np.array([5, 9, 70_000]))
    first = Step((LayerPart(0, (0, 4), (0, 9), "a" * 64),), (0, 10), (), (link,))
    second = Step((LayerPart(1, (4, 8), (9, 30), "b" * 64),), (0, 10), (Link(0, np.array([1])),), ())
    task = Task(1, (0, 10), np.array([0, 7]), (first, second), (3, 9))
    address = SnsAddress("arn:topic", (4, 9), ("https://q4", "https://q9"))
    return Assignment("run-1", 2, 2, "s3://b/m/", "c" * 64, address, 12.5, task, 7.5, 3.5, input=b"the share")


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
    assert got.to_bytes() == given.to_bytes()


def test_rows_that_several_micro_batches_name_are_written_once() -> None:
    rows = np.arange(1000)
    part = LayerPart(0, (0, 4), (0, 9), "a" * 64)

    def size(count: int) -> int:
        steps = tuple(Step((part,), (k, k + 1), (Link(0, rows),), (Link(2, rows),)) for k in range(count))
        given = replace(assignment(), task=Task(1, (0, count), None, steps, (0, 0)))
        (got,) = {
            step.receive[0].rows.tobytes() for step in parse_assignment(given.to_bytes(), "t").task.steps
        }
        assert got == rows.tobytes()
        return len(given.to_bytes())

    assert size(1) > 4000
    assert size(8) - size(1) < 4000


@pytest.mark.parametrize(
    ("samples", "micro_batches"),
    [
        ((0, 10), [(0, 5), (4, 10)]),
        ((0, 10), [(0, 5), (6, 10)]),
        ((0, 10), [(0, 5)]),
        ((0, 10), [(1, 10)]),
        ((2, 9), [(0, 5), (5, 9)]),
    ],
)
def test_micro_batches_that_are_not_each_sample_once_are_refused(
    samples: Range, micro_batches: list[Range]
) -> None:
    part = LayerPart(0, (0, 4), (0, 9), "a" * 64)
    steps = tuple(Step((part,), each) for each in micro_batches)
    given = replace(assignment(), task=Task(1, samples, None, steps, (0, 4)))
    with pytest.raises(RunError, match=r"tasks/0 is not a worker.s task"):
        parse_assignment(given.to_bytes(), "tasks/0")


def test_rows_that_are_not_there_are_refused() -> None:
    tensors = load(assignment().to_bytes())
    head = {"assignment": metadata(assignment().to_bytes())["assignment"]}
    with pytest.raises(RunError, match="rows that it does not hold"):
        parse_assignment(save({**tensors, "rows": tensors["rows"][:-1]}, head), "task")


@pytest.mark.parametrize("data", [b"", b"junk", b"\x08\0\0\0\0\0\0\0{}      "])
def test_what_is_no_assignment_is_refused(data: bytes) -> None:
    with pytest.raises(RunError, match=r"is not a worker.s task"):
        parse_assignment(data, "runs/1/tasks/0")


def test_a_record_of_another_kind_is_refused() -> None:
    with pytest.raises(RunError, match=r"plan.json is no PlanRecord"):
        from_json(PlanRecord, to_json(REPORT), "plan.json")


def test_a_record_counts_the_request_that_writes_it() -> None:
    before = Usage({"s3.put_object": Count(9, 9, 95), "s3.get_object": Count(1, 1, 7)})
    body = with_own_write(before, lambda usage: json.dumps(usage.to_json()).encode())
    stated = json.loads(body)
    assert stated["s3.put_object"] == {"calls": 10, "billed": 10, "bytes": 95 + len(body)}
    assert stated["s3.get_object"]["calls"] == 1

"""What can't be had is refused, with one line that says what can."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from lamella.cut import read_cut
from lamella.errors import InputError, PlanError
from lamella.events import RunRequest, parse_request
from lamella.files import Directory
from lamella.manifest import Manifest, read_manifest
from lamella.memory import memory_need_bytes
from lamella.plan import Plan, Task
from lamella.planner import Capacity, choose, fitted, fitting_memory_mb, regrouped
from lamella.strategies import tasks_of
from model_prep.writer import write_model
from tests.unit.prep.sources import random_source

AMPLE = Capacity(slots=64, concurrency=1000, memory_sizes_mb=(1024, 1769, 3008))


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    out = tmp_path_factory.mktemp("model") / "m"
    write_model(random_source([20, 50, 48]), out, workers=[2, 8, 48])
    return read_manifest(Directory(out))


def ask(manifest: Manifest, capacity: Capacity = AMPLE, samples: int = 100, **fields: object) -> Plan:
    request = RunRequest.model_validate({"model": "s3://b/m/", "input": "s3://b/x.npy"} | fields)
    return choose(request, manifest, samples, capacity)


def test_auto_is_rows_over_sns_with_eight_workers(manifest: Manifest) -> None:
    assert ask(manifest) == Plan("rows", "sns", 8, 1024, 100)


def test_one_worker_is_serial_and_needs_no_channel(manifest: Manifest) -> None:
    assert ask(manifest, workers=1, strategy="rows") == Plan("serial", "none", 1, 1024, 100)
    assert ask(manifest, strategy="samples", samples=1) == Plan("serial", "none", 1, 1024, 1)


def test_a_model_without_cuts_is_served_by_one_worker(manifest: Manifest) -> None:
    uncut = dataclasses.replace(manifest, cuts={})
    assert ask(uncut) == Plan("serial", "none", 1, 1024, 100)
    with pytest.raises(PlanError, match=r"no cut for 4 workers .it has: none"):
        ask(uncut, workers=4)


def test_samples_takes_no_more_workers_than_samples(manifest: Manifest) -> None:
    assert ask(manifest, strategy="samples", samples=3).workers == 3
    assert ask(manifest, strategy="samples", samples=3).channel == "none"


def test_a_pipeline_takes_no_more_workers_than_layers(manifest: Manifest) -> None:
    assert ask(manifest, strategy="pipeline") == Plan("pipeline", "sns", 2, 1024, 100)
    deep = dataclasses.replace(manifest, layers=manifest.layers * 10)
    assert ask(deep, strategy="pipeline", micro_batches=4) == Plan("pipeline", "sns", 8, 1024, 100, 4)
    assert ask(deep, strategy="pipeline", workers=20).workers == 20


@pytest.mark.parametrize(
    ("samples", "workers", "expected"),
    [
        (100, None, (8, 4)),  # the smallest cut is for 2
        (100, 6, (6, 3)),
        (100, 2, (2, 1)),
        (2, 8, (8, 2)),  # 4 x 2: no group without samples
        (3, None, (6, 3)),
    ],
)
def test_a_hybrid_is_groups_of_the_smallest_cut(
    manifest: Manifest, samples: int, workers: int | None, expected: tuple[int, int]
) -> None:
    plan = ask(manifest, samples=samples, strategy="hybrid", workers=workers)
    assert (plan.strategy, plan.channel) == ("hybrid", "sns")
    assert (plan.workers, plan.groups) == expected


def test_larger_groups_come_next(manifest: Manifest) -> None:
    plan = ask(manifest, strategy="hybrid", workers=8)
    assert [each.row_workers for each in regrouped(plan, manifest)] == [2, 4, 8]
    assert regrouped(plan, manifest)[0] == plan
    rows = ask(manifest, strategy="rows")
    assert regrouped(rows, manifest) == [rows]


@pytest.mark.parametrize(
    ("times", "asked_mb", "row_workers", "memory_mb"),
    [(1, None, 2, 1024), (20_000, None, 4, 3008), (20_000, 1024, 8, 1024), (1, 1769, 2, 1769)],
)
def test_groups_are_as_large_as_their_workers_memory_asks(
    tmp_path: Path, times: int, asked_mb: int | None, row_workers: int, memory_mb: int
) -> None:
    """Of a model that says it has many times the weights that it has; nobody reads them."""
    write_model(random_source([256] * 3), tmp_path / "m", workers=[2])
    files = Directory(tmp_path / "m")
    model = read_manifest(files)

    def tasks_under(plan: Plan) -> list[Task]:
        cut = read_cut(files, model, plan.row_workers)
        return tasks_of(model, dataclasses.replace(cut, entry_bounds=cut.entry_bounds * times), plan)

    chosen = ask(model, strategy="hybrid", workers=8)
    plan, tasks = fitted(chosen, model, tasks_under, AMPLE.memory_sizes_mb, asked_mb)
    assert (plan.row_workers, plan.groups, plan.memory_mb) == (row_workers, 8 // row_workers, memory_mb)
    assert len({task.samples for task in tasks}) == plan.groups


@pytest.mark.parametrize(
    ("fields", "capacity", "says"),
    [
        ({"strategy": "pipeline", "workers": 3}, AMPLE, "3 workers are more than the 2 layers: .*at most 2"),
        ({"strategy": "hybrid", "workers": 9}, AMPLE, r"9 workers are no groups .*2, 4, 8.* a multiple"),
        ({"micro_batches": 101}, AMPLE, "101 micro-batches are more than the 100 samples of a worker"),
        (
            {"strategy": "samples", "micro_batches": 13},
            AMPLE,
            "13 micro-batches are more than the 12 samples",
        ),
        ({"strategy": "hybrid", "micro_batches": 26}, AMPLE, "26 micro-batches are more than the 25 samples"),
        ({"strategy": "serial", "workers": 2}, AMPLE, "serial has one worker, not 2"),
        ({"strategy": "samples", "workers": 101}, AMPLE, "101 workers are more than the 100 samples"),
        ({"strategy": "rows", "workers": 49}, AMPLE, "more than the 48 rows of the narrowest layer"),
        ({"strategy": "rows", "workers": 3}, AMPLE, r"no cut for 3 workers .*2, 4, 8.*--workers 3"),
        ({"workers": 3}, AMPLE, r"no cut for 3 workers .*2, 4, 8"),
        ({"strategy": "rows", "workers": 48}, AMPLE, "a Map runs 40"),
        ({"channel": "sns"}, Capacity(4, 1000, (1024,)), "8 slots and 4 are deployed: .*channel sqs or s3"),
        ({"strategy": "rows"}, Capacity(64, 7, (1024,)), "the account runs 7"),
        ({"memory_mb": 2048}, AMPLE, "no worker of 2048 MB is deployed: use 1024, 1769, 3008"),
    ],
)
def test_refusals(manifest: Manifest, fields: dict[str, object], capacity: Capacity, says: str) -> None:
    with pytest.raises(PlanError, match=says):
        ask(manifest, capacity, **fields)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"strategy": "row"}, "unknown strategy 'row' .did you mean 'rows'"),
        ({"channel": "snss"}, "unknown channel 'snss' .did you mean 'sns'"),
        ({"stratgy": "rows"}, "unknown field 'stratgy' .*did you mean 'strategy'"),
        ({"workers": "many"}, "workers of the run's input"),
        ({"workers": 0}, "workers of the run's input"),
        ({"model": "here"}, "model of the run's input"),
    ],
)
def test_requests_that_are_refused(fields: dict[str, object], says: str) -> None:
    with pytest.raises(InputError, match=says):
        parse_request({"model": "s3://b/m/", "input": "s3://b/x.npy"} | fields)


def test_a_request_needs_a_model_and_an_input() -> None:
    with pytest.raises(InputError, match="has no 'input'"):
        parse_request({"model": "s3://b/m/"})


@pytest.mark.parametrize(("slots", "channel"), [(8, "sns"), (7, "sqs")])
def test_queues_are_made_where_too_few_are_deployed(manifest: Manifest, slots: int, channel: str) -> None:
    assert ask(manifest, Capacity(slots, 1000, (1024,)), strategy="rows").channel == channel


@pytest.mark.parametrize("channel", ["sns", "sqs", "s3"])
def test_a_channel_that_is_asked_for_is_taken(manifest: Manifest, channel: str) -> None:
    assert ask(manifest, strategy="rows", channel=channel).channel == channel
    assert ask(manifest, strategy="serial", channel=channel).channel == "none"


def test_memory_grows_with_the_samples_and_is_refused_beyond_the_largest(manifest: Manifest) -> None:
    def plan(samples: int) -> Plan:
        return Plan("serial", "none", 1, 0, samples)

    def need(samples: int) -> int:
        return memory_need_bytes(tasks_of(manifest, None, plan(samples)), manifest)

    assert need(10) < need(1_000_000)
    assert fitting_memory_mb(need(10), AMPLE.memory_sizes_mb, plan(10)) == 1024
    with pytest.raises(PlanError, match="parameter LargeWorkerMemory"):
        fitting_memory_mb(need(100_000_000), AMPLE.memory_sizes_mb, plan(100_000_000))


def test_a_pipeline_that_can_t_keep_its_block_is_told_to_leave_micro_batches_out() -> None:
    with pytest.raises(PlanError, match=r"leave micro_batches out, since .* its block"):
        fitting_memory_mb(1 << 40, [1024], Plan("pipeline", "sns", 2, 1024, 100, 2))
    with pytest.raises(PlanError, match="has 1024: ask for more workers"):
        fitting_memory_mb(1 << 40, [1024], Plan("pipeline", "sns", 2, 1024, 100, 1))

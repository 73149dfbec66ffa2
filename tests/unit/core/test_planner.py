"""What can't be had is refused, with one line that says what can."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from lamella.errors import InputError, PlanError
from lamella.events import RunRequest, parse_request
from lamella.files import Directory
from lamella.manifest import Manifest, read_manifest
from lamella.memory import memory_need_bytes
from lamella.plan import Plan
from lamella.planner import Capacity, check_fits, choose, possible, regrouped
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


def test_the_plainest_plan_is_rows_over_sns_with_eight_workers(manifest: Manifest) -> None:
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


def everything(manifest: Manifest, capacity: Capacity = AMPLE, **fields: object) -> list[Plan]:
    request = RunRequest.model_validate({"model": "s3://b/m/", "input": "s3://b/x.npy"} | fields)
    return possible(request, manifest, 100, capacity)


def test_what_is_left_open_is_all_looked_at(manifest: Manifest) -> None:
    plans = everything(manifest)
    assert {plan.strategy for plan in plans} == {"serial", "samples", "pipeline", "hybrid", "rows"}
    assert {plan.channel for plan in plans if plan.strategy == "rows"} == {"sns", "sqs", "s3"}
    assert {plan.workers for plan in plans if plan.strategy == "rows"} == {2, 4, 8, 16, 32, 48}
    assert {plan.micro_batches for plan in plans if plan.strategy == "hybrid"} == {1, 2, 4}
    assert {plan.groups for plan in plans if (plan.strategy, plan.workers) == ("hybrid", 8)} == {1, 2, 4}
    assert len(plans) == len(set(plans))


def test_what_is_asked_for_is_kept(manifest: Manifest) -> None:
    plans = everything(manifest, strategy="rows", workers=8)
    assert {(plan.strategy, plan.workers) for plan in plans} == {("rows", 8)}
    assert {plan.channel for plan in everything(manifest, channel="s3")} == {"s3"}
    only = everything(manifest, strategy="rows", workers=8, channel="sqs", micro_batches=3)
    assert only == [Plan("rows", "sqs", 8, 1024, 100, 3)]


def test_no_more_workers_than_may_run_or_are_deployed(manifest: Manifest) -> None:
    plans = everything(manifest, Capacity(4, 8, (1024,)))
    assert max(plan.workers for plan in plans) == 8
    assert max(plan.workers for plan in plans if plan.channel == "sns") == 4


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
        (
            {"strategy": "rows", "workers": 48},
            Capacity(64, 1000, (1024,), max_workers=47),
            "48 workers are more than the 47 .*parameter MaxWorkers, at most 1000",
        ),
        ({"strategy": "samples", "workers": 1001, "samples": 2000}, AMPLE, "more than the 1000 that a run"),
        ({"channel": "sns"}, Capacity(4, 1000, (1024,)), "8 slots and 4 are deployed: .*channel sqs or s3"),
        ({"strategy": "rows"}, Capacity(64, 7, (1024,)), "the account runs 7"),
        ({"memory_mb": 2048}, AMPLE, "no worker of 2048 MB is deployed: use 1024, 1769, 3008"),
    ],
)
def test_refusals(manifest: Manifest, fields: dict[str, object], capacity: Capacity, says: str) -> None:
    with pytest.raises(PlanError, match=says):
        ask(manifest, capacity, **fields)


def test_a_gang_may_be_larger_than_what_an_inline_map_or_sns_holds(tmp_path: Path) -> None:
    write_model(random_source([20, 240, 240]), tmp_path / "m", workers=[48, 200, 201])
    wide = read_manifest(Directory(tmp_path / "m"))
    ample = Capacity(500, 1000, (1024,))

    assert ask(wide, ample, workers=48).workers == 48
    assert ask(wide, ample, workers=200).channel == "sns"
    assert ask(wide, ample, workers=201).channel == "sqs"
    assert ask(wide, ample, workers=201, channel="s3").channel == "s3"
    with pytest.raises(PlanError, match="sns serves up to 200 workers, not 201: ask for channel sqs or s3"):
        ask(wide, ample, workers=201, channel="sns")


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
    check_fits(need(10), AMPLE.memory_sizes_mb, plan(10))
    with pytest.raises(PlanError, match="parameter LargeWorkerMemory"):
        check_fits(need(100_000_000), AMPLE.memory_sizes_mb, plan(100_000_000))


def test_a_pipeline_that_can_t_keep_its_block_is_told_to_leave_micro_batches_out() -> None:
    with pytest.raises(PlanError, match=r"leave micro_batches out, since .* its block"):
        check_fits(1 << 40, [1024], Plan("pipeline", "sns", 2, 1024, 100, 2))
    with pytest.raises(PlanError, match="has 1024: ask for more workers"):
        check_fits(1 << 40, [1024], Plan("pipeline", "sns", 2, 1024, 100, 1))

"""What every layer of a run took, as its timeline tells it."""

from __future__ import annotations

import dataclasses
from dataclasses import astuple
from itertools import pairwise
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import sparse

from lamella.engine import StepRecord
from lamella.inputs import Batch
from lamella.inputs.batch import dense_blocks, join
from lamella.plan import Plan
from lamella.records import Ending, PlanRecord, Share, StepRow, WorkerReport, from_json, to_json
from lamella.timeline import Timeline, layer_totals, timeline
from model_prep.readers import open_source
from model_prep.reference import plain_scipy
from model_prep.writer import write_model
from tests.gang import GangPlan, infer_planned
from tests.parts import REPORT

LAYERS, SAMPLES, WORKERS = 24, 40, 4


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("timeline") / "model"
    write_model(open_source(f"radixnet:256x{LAYERS}"), out, workers=[WORKERS])
    return out


@pytest.fixture(scope="module")
def images() -> NDArray[np.float32]:
    """Samples of ever fewer ones, so that some die in every few layers."""
    values = np.zeros((SAMPLES, 256), np.float32)
    for sample in range(SAMPLES):
        values[sample, : 6 * sample] = 1
    return values


def rows_of(records: list[StepRecord]) -> tuple[StepRow, ...]:
    return tuple(cast(StepRow, astuple(record)) for record in records)


def batch_of(values: NDArray[np.float32]) -> Batch:
    return join(dense_blocks(values, "x"), len(values), 0, "x")


def record(**more: object) -> PlanRecord:
    plan = Plan("rows", "sns", 1, 1024, 10)
    share = Share((0, 4), (0, 10))
    given = PlanRecord("r", 1, {}, plan, "s3://b/m/", 1, 100.0, 200.0, (share,), {}, planned_s=101.0)
    return dataclasses.replace(given, **more)  # type: ignore[arg-type]


def test_a_row_has_the_fields_of_a_step() -> None:
    assert len(astuple(StepRecord(0, 0, 0, 0, 0, 0))) == len(StepRow.__args__)
    ending = Ending("ModelError: bad", REPORT, ('{"a": 1}',))
    assert from_json(Ending, to_json(ending), "mark") == ending


@pytest.mark.parametrize(
    "planned", [GangPlan("rows", WORKERS, 2), GangPlan("pipeline", 3, 2), GangPlan("serial")]
)
def test_every_layer_is_told_of(model: Path, images: NDArray[np.float32], planned: GangPlan) -> None:
    _, records = infer_planned(model, batch_of(images), planned)
    totals = list(layer_totals(map(rows_of, records), ()))
    computed_s = sum(step.compute_s for steps in records for step in steps)

    assert [total.layer for total in totals] == list(range(LAYERS))
    assert sum(total.compute_s for total in totals) == pytest.approx(computed_s, abs=1e-3)
    assert all(total.compute_s > 0 for total in totals)
    sent = [total.layer for total in totals if total.sent_bytes]
    assert (
        sent
        == {
            "rows": list(range(LAYERS - 1)),
            "pipeline": [7, 15],
            "serial": [],
        }[planned.strategy]
    )
    assert all(bool(total.letters) == bool(total.sent_bytes) for total in totals)


def test_steps_begin_one_after_the_other_and_spans_are_whole(
    model: Path, images: NDArray[np.float32]
) -> None:
    _, (steps,) = infer_planned(model, batch_of(images), GangPlan("serial", 1, 2))
    for before, after in pairwise(steps):
        assert before.began_s + before.compute_s <= after.began_s + 1e-3
    for step in steps:
        assert (step.spans[0][0], step.spans[-1][1]) == (step.first_layer, step.layer)
        assert [span[0] for span in step.spans[1:]] == [span[1] + 1 for span in step.spans[:-1]]
        assert step.spans[-1][4] == step.live
        assert sum(span[3] for span in step.spans) == pytest.approx(step.compute_s, rel=0.5, abs=1e-3)


def test_live_samples_are_those_of_the_network(model: Path, images: NDArray[np.float32]) -> None:
    _, records = infer_planned(model, batch_of(images), GangPlan("serial"))
    whole = plain_scipy(open_source(f"radixnet:256x{LAYERS}"), sparse.csr_array(images))
    alive = np.count_nonzero(whole.any(axis=1))
    totals = list(layer_totals(map(rows_of, records), ()))

    assert totals[-1].live == alive
    told = [total.live for total in totals if total.live is not None]
    assert len(told) > 2
    assert told == sorted(told, reverse=True)
    assert 0 < alive < told[0]


def test_calls_are_added_up_by_layer() -> None:
    traffic = [
        {"sns.publish_batch": ((1, 2, 100), (2, 1, 50))},
        {"sns.publish_batch": ((1, 1, 10),), "sqs.receive_message": ((1, 4, 7),)},
    ]
    first, second = layer_totals((), traffic)
    assert {name: (c.calls, c.bytes) for name, c in first.calls.items()} == {
        "sns.publish_batch": (3, 110),
        "sqs.receive_message": (4, 7),
    }
    assert (second.layer, second.live, second.calls["sns.publish_batch"].calls) == (2, None, 1)


def test_moments_count_from_the_plan() -> None:
    worker = WorkerReport(0, 102.0, 103.0, 107.5, 1024, (), (1, "stream"), {})
    drawn = timeline(record(), "SUCCEEDED", [worker], collected_s=(108.0, 109.0), finish_s=(110.0, 110.5))
    assert [(state.name, state.began_s, state.ended_s) for state in drawn.states] == [
        ("Plan", 0.0, 1.0),
        ("Workers", 2.0, 7.5),
        ("Collect", 8.0, 9.0),
        ("Finish", 10.0, 10.5),
    ]
    assert (drawn.workers[0].started_s, drawn.workers[0].ended_s) == (2.0, 7.5)
    assert Timeline.model_validate_json(drawn.model_dump_json()) == drawn


def test_a_failed_run_has_what_its_workers_left() -> None:
    drawn = timeline(record(), "FAILED", [], [Ending("ModelError: bad", REPORT, ())])
    (worker,) = drawn.workers
    assert (worker.worker, worker.error, worker.steps[0].layer) == (3, "ModelError: bad", 0)
    assert [state.name for state in drawn.states] == ["Plan", "Workers"]
    assert [state.name for state in timeline(record(planned_s=0.0), "FAILED", []).states] == []

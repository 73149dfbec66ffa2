"""Who owns what, who sends what to whom, and that none of it changes a bit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lamella.cut import Cut, read_cut
from lamella.files import Directory
from lamella.inputs import Batch
from lamella.inputs.batch import dense_blocks, join
from lamella.manifest import Manifest, read_manifest
from lamella.plan import Plan, StrategyName, Task
from lamella.strategies import tasks_of
from lamella.strategies.pipeline import blocks
from lamella.strategies.portions import even_ranges
from model_prep.radixnet import RadixNet
from model_prep.source import Source, source_layer
from model_prep.writer import write_model
from tests.gang import GangPlan, infer, infer_planned
from tests.unit.prep.sources import random_source, source_of

SAMPLES = 23
CUTS = [2, 3, 4]
PLANS = [
    GangPlan("serial", 1, 3),
    GangPlan("samples", 3, 1),
    GangPlan("samples", 4, 5),
    *(GangPlan("rows", workers, micro) for workers in CUTS for micro in (1, 2, SAMPLES)),
    *(GangPlan("pipeline", workers, micro) for workers in (2, 5) for micro in (1, 2, 7)),
    *(GangPlan("hybrid", workers, micro, 2) for workers in (4, 6, 8) for micro in (1, 3)),
    GangPlan("hybrid", 15, 1, 5),
]


def official_like() -> Source:
    """Sparse, and most samples die on the way."""
    return RadixNet(64, 12).source()


def dense() -> Source:
    """Dense layers in bands, which need every row of the one before."""
    random = np.random.default_rng(1)
    shapes = [(40, 30), (40, 40), (33, 40), (40, 33), (9, 40)]
    weights = [random.standard_normal(shape).astype(np.float32) for shape in shapes]
    return source_of(*(source_layer(f"{k}", weight, bias=0.1) for k, weight in enumerate(weights)))


def mixed() -> Source:
    """Irregular widths, dense and sparse layers; dead samples come alive in the second and the fifth."""
    random = np.random.default_rng(2)

    def weight(outputs: int, inputs: int, density: float) -> NDArray[np.float32]:
        drawn = random.standard_normal((outputs, inputs)).astype(np.float32)
        drawn[random.random(drawn.shape) > density] = 0
        return drawn

    return source_of(
        source_layer("a", weight(37, 20, 0.2), bias=-1.5, bias_on="nonzero"),
        source_layer("b", weight(50, 37, 0.3), bias=random.standard_normal(50).astype(np.float32)),
        source_layer("c", weight(24, 50, 1.0), bias=-3.0, bias_on="nonzero", hi=2.0),
        source_layer("d", weight(60, 24, 0.1), activation="leaky_relu", slope=0.3),
        source_layer("e", weight(31, 60, 0.5), activation="sigmoid"),
        source_layer("f", weight(7, 31, 1.0), activation="softmax"),
    )


def samples_for(source: Source) -> Batch:
    """Samples of which some are all zero from the start, at the beginning, in the middle and at the end."""
    random = np.random.default_rng(5)
    x = np.abs(random.standard_normal((SAMPLES, source.features))).astype(np.float32)
    x[random.random(x.shape) < 0.6] = 0
    x[[0, 1, 9, 10, 11, SAMPLES - 1]] = 0
    return join(dense_blocks(x, "x"), SAMPLES, 0, "x")


@pytest.fixture(scope="module", params=[official_like, dense, mixed], ids=lambda make: make.__name__)
def run(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Batch, bytes]:
    """A model, samples, and the serial answer."""
    source: Source = request.param()
    model = tmp_path_factory.mktemp("model") / "m"
    write_model(source, model, workers=CUTS)
    batch = samples_for(source)
    return model, batch, infer(model, batch)[0].tobytes()


@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_every_strategy_gives_the_serial_bits(run: tuple[Path, Batch, bytes], plan: GangPlan) -> None:
    model, batch, expected = run
    output, records = infer_planned(model, batch, plan)
    assert output.tobytes() == expected
    assert output.any()
    assert len(records) == plan.workers


def test_dead_samples_come_alive_in_the_model_that_says_so(tmp_path: Path) -> None:
    write_model(mixed(), tmp_path / "m")
    kinds = [layer.zeros_to_zeros for layer in read_manifest(Directory(tmp_path / "m")).layers]
    assert kinds == [True, False, True, True, False, True]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Directory:
    out = tmp_path_factory.mktemp("model") / "m"
    write_model(random_source([20, 50, 48, 9, 30, 48, 48, 48, 48, 48, 48, 12]), out, workers=CUTS)
    return Directory(out)


def planned(model: Directory, plan: GangPlan) -> tuple[Manifest, Cut | None, list[Task]]:
    manifest, whole = read_manifest(model), plan.of(SAMPLES)
    cut = read_cut(model, manifest, whole.row_workers) if whole.row_workers > 1 else None
    return manifest, cut, tasks_of(manifest, cut, whole)


@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_what_is_sent_is_what_is_received(model: Directory, plan: GangPlan) -> None:
    """Rows, layer, samples and both workers; and each before its receiver can need it."""
    _, _, tasks = planned(model, plan)
    sent = Counter(
        (task.worker, link.peer, step.parts[-1].layer + 1, step.samples, link.rows.tobytes())
        for task in tasks
        for step in task.steps
        for link in step.send
    )
    received = Counter(
        (link.peer, task.worker, step.parts[0].layer, step.samples, link.rows.tobytes())
        for task in tasks
        for step in task.steps
        for link in step.receive
    )
    assert sent == received
    assert set(sent.values()) <= {1}
    assert bool(sent) == (plan.strategy in {"rows", "pipeline", "hybrid"})
    assert all(sender != receiver for sender, receiver, *_ in sent)
    walk(tasks)


def walk(tasks: Sequence[Task]) -> None:
    """Go through all tasks' steps as far as what has been sent allows, which must be to their ends."""
    done = [0] * len(tasks)
    there: set[tuple[int, int, int, tuple[int, int]]] = set()
    moved = True
    while moved:
        moved = False
        for task in tasks:
            while done[task.worker] < len(task.steps):
                step = task.steps[done[task.worker]]
                first, last = step.parts[0].layer, step.parts[-1].layer
                if any((link.peer, task.worker, first, step.samples) not in there for link in step.receive):
                    break
                there |= {(task.worker, link.peer, last + 1, step.samples) for link in step.send}
                done[task.worker] += 1
                moved = True
    assert done == [len(task.steps) for task in tasks]


@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_every_row_of_every_layer_is_computed_once_for_every_sample(model: Directory, plan: GangPlan) -> None:
    manifest, _, tasks = planned(model, plan)
    for k, layer in enumerate(manifest.layers):
        times = np.zeros((layer.rows, SAMPLES), int)
        for task in tasks:
            for step in task.steps:
                for part in step.parts:
                    if part.layer == k:
                        times[slice(*part.rows), slice(*step.samples)] += 1
        assert (times == 1).all()
    output = np.zeros((manifest.outputs, SAMPLES), int)
    for task in tasks:
        output[slice(*task.rows), slice(*task.samples)] += 1
    assert (output == 1).all()


@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_a_worker_has_the_rows_that_its_weights_multiply(model: Directory, plan: GangPlan) -> None:
    """Its own, what came with the step, or, at first, features; the engine refuses if one is missing."""
    manifest, _, tasks = planned(model, plan)
    for task in tasks:
        assert len(task.parts) == len({part.layer for part in task.parts})
        assert all(count <= plan.micro_batches for count in task.uses.values())
        if task.parts[0].layer:
            assert task.features is not None
            assert not len(task.features)
            wide = manifest.layers[task.parts[0].layer].columns
            assert [len(link.rows) for link in task.steps[0].receive] == [wide]


def test_one_micro_batch_is_computed_while_the_other_is_on_its_way(model: Directory) -> None:
    _, _, tasks = planned(model, GangPlan("rows", 2, 2))
    for task in tasks:
        order = [(step.parts[0].layer, step.samples[0]) for step in task.steps]
        assert order == sorted(order)
        assert {samples for _, samples in order} == {0, SAMPLES // 2}


def test_a_pipeline_passes_each_micro_batch_on_before_it_takes_the_next(model: Directory) -> None:
    _, _, tasks = planned(model, GangPlan("pipeline", 3, 4))
    for task in tasks[:-1]:
        order = [step.samples for step in task.steps]
        assert order == sorted(order)
        assert [bool(step.send) for step in task.steps].count(True) == 4
        assert task.rows == (0, 0)


def test_groups_of_a_hybrid_talk_among_themselves(model: Directory) -> None:
    _, _, tasks = planned(model, GangPlan("hybrid", 6, 1, 2))
    for task in tasks:
        peers = {link.peer for step in task.steps for link in step.receive + step.send}
        assert peers <= {worker for worker in range(6) if worker // 3 == task.worker // 3}
    assert [task.samples for task in tasks] == [(0, 11)] * 3 + [(11, 23)] * 3


@given(st.lists(st.integers(0, 50), min_size=1, max_size=9), st.data())
def test_the_heaviest_block_is_as_light_as_can_be(work: list[int], data: st.DataObject) -> None:
    workers = data.draw(st.integers(1, len(work)))
    found = blocks(work, workers)
    assert [start for start, _ in found] == [0, *(stop for _, stop in found[:-1])]
    assert found[-1][1] == len(work)
    assert len(found) == workers
    assert all(start < stop for start, stop in found)
    assert max(sum(work[slice(*block)]) for block in found) == least(tuple(work), workers)


def least(work: tuple[int, ...], workers: int) -> int:
    """By trying every first block."""
    if workers == 1:
        return sum(work)
    firsts = range(1, len(work) - workers + 2)
    return min(max(sum(work[:first]), least(work[first:], workers - 1)) for first in firsts)


@given(st.integers(1, 200), st.data())
def test_even_ranges_are_even(count: int, data: st.DataObject) -> None:
    ranges = even_ranges(count, data.draw(st.integers(1, count)))
    assert all(one[1] == next_[0] for one, next_ in pairwise(ranges))
    assert (ranges[0][0], ranges[-1][1]) == (0, count)
    lengths = [stop - start for start, stop in ranges]
    assert max(lengths) - min(lengths) <= 1


@pytest.mark.parametrize(
    ("strategy", "workers", "groups", "row_workers", "shares"),
    [
        ("serial", 1, 1, 1, 1),
        ("samples", 6, 1, 1, 6),
        ("rows", 6, 1, 6, 1),
        ("pipeline", 6, 1, 1, 1),
        ("hybrid", 6, 3, 2, 3),
    ],
)
def test_what_a_plan_says_of_its_workers(
    strategy: StrategyName, workers: int, groups: int, row_workers: int, shares: int
) -> None:
    plan = Plan(strategy, "sns", workers, 1024, SAMPLES, 1, groups)
    assert (plan.row_workers, plan.sample_shares) == (row_workers, shares)

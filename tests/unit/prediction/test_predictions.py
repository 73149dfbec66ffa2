"""Workloads count what tasks say; formula and simulator agree where chance has no part."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lamella.channels.estimates import PRICES
from lamella.cost import load_book
from lamella.cut import read_cut
from lamella.files import Directory
from lamella.manifest import Manifest, read_manifest
from lamella.plan import ChannelName, Plan
from lamella.prediction import Activity, Profile, Workload, load_profile, predict, simulate, workload_of
from lamella.prediction.accounting import (
    COLLECT_MEMORY_MB,
    FINISH_MEMORY_MB,
    PLAN_MEMORY_MB,
    letters_usage,
)
from lamella.prediction.analytic import Shape, butterfly_halo, rows_workload
from lamella.prediction.closed_form import sensitivity
from lamella.prediction.profile import Quantiles
from lamella.prediction.simulator import Disturbance
from lamella.prediction.times import step_times
from lamella.strategies import NEEDS_CUT
from model_prep.readers import open_source
from model_prep.writer import write_model

TEMPLATE = Path(__file__).resolve().parents[3] / "template.yaml"
LAYERS, SAMPLES = 12, 500
BOOK = load_book()
PLANS = [
    Plan("serial", "none", 1, 1769, SAMPLES),
    Plan("samples", "none", 4, 1769, SAMPLES),
    Plan("pipeline", "sqs", 4, 1769, SAMPLES, 5),
    Plan("rows", "sns", 4, 1769, SAMPLES),
    Plan("rows", "sqs", 8, 1769, SAMPLES, 2),
    Plan("rows", "s3", 8, 1024, SAMPLES),
    Plan("hybrid", "sqs", 8, 3008, SAMPLES, 1, 2),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Directory:
    out = tmp_path_factory.mktemp("model") / "m"
    write_model(open_source(f"radixnet:1024x{LAYERS}"), out, workers=[4, 8])
    return Directory(out)


@pytest.fixture(scope="module")
def manifest(model: Directory) -> Manifest:
    return read_manifest(model)


def workload(model: Directory, manifest: Manifest, plan: Plan, activity: Activity | None = None) -> Workload:
    cut = read_cut(model, manifest, plan.row_workers) if plan.strategy in NEEDS_CUT else None
    return workload_of(manifest, cut, plan, activity or Activity.all_alive(LAYERS))


def steady(profile: Profile) -> Profile:
    """As long every time, and without functions that are late."""
    for place, constant in list(profile.constants()):
        if isinstance(constant, Quantiles):
            group, _, name = place.partition(".")
            even = Quantiles(
                median=constant.median, p90=constant.median, p99=constant.median, source=constant.source
            )
            changed = getattr(profile, group).model_copy(update={name: even})
            profile = profile.model_copy(update={group: changed})
    return profile.with_scaled("functions.scale_out_per_s", 1e9)


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: f"{plan.strategy}-{plan.channel}-{plan.workers}")
def test_no_work_is_lost_whoever_does_it(model: Directory, manifest: Manifest, plan: Plan) -> None:
    load = workload(model, manifest, plan)
    products = sum(layer.nnz for layer in manifest.layers) * SAMPLES
    assert load.steps.sparse.sum() == products
    assert load.output_bytes.sum() == 4 * manifest.outputs * SAMPLES
    assert load.letters_out.sum() == load.letters_in.sum() == len(load.links.bytes)
    # Each layer's weights are read once by each group that shares them.
    stored = sum(layer.nnz * layer.entry_bytes + layer.rows * layer.row_bytes for layer in manifest.layers)
    assert load.steps.read_bytes.sum() == stored * (plan.sample_shares if plan.strategy != "rows" else 1)


def test_dead_samples_are_no_work(model: Directory, manifest: Manifest) -> None:
    half = Activity("half", (1.0, *(0.5,) * LAYERS), cell_bytes=1.0)
    full, dying = (workload(model, manifest, PLANS[3], activity) for activity in (None, half))
    assert dying.steps.sparse.sum() < 0.6 * full.steps.sparse.sum()
    assert dying.links.bytes.sum() < 0.3 * full.links.bytes.sum()


@pytest.mark.parametrize("channel", ["sns", "sqs", "s3"])
@pytest.mark.parametrize("cell_bytes", [0.02, 4.0, 600.0])
def test_letters_use_what_the_channel_says(
    model: Directory, manifest: Manifest, channel: ChannelName, cell_bytes: float
) -> None:
    plan = Plan("rows", channel, 8, 1769, SAMPLES)
    load = workload(model, manifest, plan, Activity("test", (1.0,) * (LAYERS + 1), cell_bytes))
    found = letters_usage(load, step_times(load, load_profile()).calls)
    expected = PRICES[channel](load.sends)
    assert set(found.counts) - {"sqs.create_queue", "sqs.delete_queue"} == set(expected.counts)
    for name, count in expected.counts.items():
        assert found.count(name).billed == pytest.approx(count.billed, rel=0.2, abs=4), name


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: f"{plan.strategy}-{plan.channel}-{plan.workers}")
def test_formula_and_simulator_agree_without_chance(model: Directory, manifest: Manifest, plan: Plan) -> None:
    load, profile = workload(model, manifest, plan), steady(load_profile())
    predicted, simulated = predict(load, profile, BOOK), simulate(load, profile, BOOK)
    assert predicted.seconds.infer == pytest.approx(simulated.seconds.infer, rel=0.25)
    assert predicted.seconds.total == pytest.approx(simulated.seconds.total, rel=0.1)
    assert predicted.usd["total"] == pytest.approx(simulated.usd["total"], rel=0.1)


@pytest.mark.parametrize("workers", [4, 8])
def test_and_nearly_with_it(model: Directory, manifest: Manifest, workers: int) -> None:
    load, profile = workload(model, manifest, Plan("rows", "sqs", workers, 1769, SAMPLES)), load_profile()
    runs = [simulate(load, profile, BOOK, seed).seconds.infer for seed in range(15)]
    assert predict(load, profile, BOOK).seconds.infer == pytest.approx(np.median(runs), rel=0.2)


def test_states_are_billed_by_the_memory_that_they_are_deployed_with() -> None:
    text = TEMPLATE.read_text(encoding="utf-8")
    for name, memory_mb in (
        ("PlanFunction", PLAN_MEMORY_MB),
        ("CollectFunction", COLLECT_MEMORY_MB),
        ("FinishFunction", FINISH_MEMORY_MB),
    ):
        function = text[text.index(f"\n  {name}:\n") :]
        assert re.search(r"MemorySize: (\d+)", function[:2000])[1] == str(memory_mb)  # type: ignore[index]


def test_one_worker_takes_its_products_over_its_speed(model: Directory, manifest: Manifest) -> None:
    load, profile = workload(model, manifest, PLANS[0]), load_profile()
    compute_s = load.steps.sparse.sum() / profile.kernel.sparse_per_s.value
    compute_s += LAYERS * profile.kernel.layer_s.value
    read_s = profile.s3.get.median + load.steps.read_bytes.sum() / profile.functions.bytes_per_s.value
    assert predict(load, profile, BOOK).seconds.infer == pytest.approx(
        max(compute_s + profile.s3.get.median, read_s)
    )


def test_the_same_seed_gives_the_same_run_and_another_another(model: Directory, manifest: Manifest) -> None:
    load, profile = workload(model, manifest, PLANS[4]), load_profile()
    first, again, other = (simulate(load, profile, BOOK, seed) for seed in (1, 1, 2))
    assert first.seconds == again.seconds
    assert (first.ended_s == again.ended_s).all()
    assert first.seconds != other.seconds


def test_a_gang_waits_for_its_straggler(model: Directory, manifest: Manifest) -> None:
    load, profile = workload(model, manifest, Plan("rows", "sqs", 8, 1769, SAMPLES)), load_profile()
    profile = profile.with_scaled("kernel.sparse_per_s", 0.001)
    smooth = simulate(load, profile, BOOK, 3)
    rough = simulate(load, profile, BOOK, 3, Disturbance(straggler_share=0.2, slowdown=5.0))
    assert rough.stragglers
    assert rough.seconds.infer > 3 * smooth.seconds.infer
    others = np.delete(rough.waited_s, rough.stragglers)
    assert others.min() > rough.waited_s[list(rough.stragglers)].max()


@pytest.mark.parametrize(
    ("place", "factor", "bound"),
    [
        ("kernel.sparse_per_s", 1e-4, "computing"),
        ("functions.bytes_per_s", 1e-5, "reading"),
        ("sqs.hop", 100.0, "latency"),
        ("functions.init", 100.0, "start"),
    ],
)
def test_what_takes_longest_is_named(
    model: Directory, manifest: Manifest, place: str, factor: float, bound: str
) -> None:
    activity = Activity("test", (*(1.0,) * LAYERS, 0.0), input_density=0.0)
    load = workload(model, manifest, Plan("rows", "sqs", 4, 1769, SAMPLES), activity)
    profile = load_profile().with_scaled(place, factor)
    predicted = predict(load, profile, BOOK)
    assert predicted.bound == bound
    assert predicted.seconds.total == pytest.approx(sum(predicted.parts.values()), rel=0.1)
    most = sensitivity(load, profile, BOOK)[0]
    assert most.constant in {place, "functions.mb_per_vcpu"}


def test_warm_functions_start_sooner_and_cost_less(model: Directory, manifest: Manifest) -> None:
    load, profile = workload(model, manifest, PLANS[1]), load_profile()
    cold, warm = predict(load, profile, BOOK), predict(load, profile, BOOK, cold=False)
    assert warm.seconds.total < cold.seconds.total - profile.functions.init.median
    assert warm.usd["lambda"] < cold.usd["lambda"]
    assert warm.usd["s3"] == cold.usd["s3"]


def test_a_formula_for_the_official_cut_is_near_the_real_one(model: Directory, manifest: Manifest) -> None:
    for workers in (4, 8):
        cut = read_cut(model, manifest, workers)
        inside = cut.links[:, 0] > 0
        rows = np.diff(cut.link_starts)[inside].sum() / (LAYERS - 1) / 1024
        assert butterfly_halo(1024, workers).share == pytest.approx(rows, rel=0.35)


def test_a_thousand_workers_and_a_million_neurons() -> None:
    shape, workers, profile = Shape(neurons=1 << 20, layers=24), 1000, load_profile()
    activity = Activity.all_alive(shape.layers)

    def official(plan: Plan) -> Workload:
        return rows_workload(shape, plan, activity, butterfly_halo(shape.neurons, plan.workers))

    plan = Plan("rows", "sqs", workers, 1769, 1000)
    load = official(plan)
    assert load.steps.sparse.sum() == pytest.approx(32.0 * shape.neurons * shape.layers * 1000)
    simulated = simulate(load, profile, BOOK)
    assert len(simulated.ended_s) == workers
    assert predict(load, profile, BOOK).seconds.infer == pytest.approx(simulated.seconds.infer, rel=0.3)
    # A Distributed Map begins later.
    few = simulate(official(replace(plan, workers=40)), profile, BOOK)
    assert few.seconds.prepare < simulated.seconds.prepare

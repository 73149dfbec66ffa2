"""The planner's candidates: all of them looked at give the same choice as those that may be on the front."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lamella.cost import load_book
from lamella.cut import Cut, read_cut
from lamella.errors import PlanError
from lamella.events import RunRequest
from lamella.files import Directory
from lamella.manifest import Manifest, read_manifest
from lamella.plan import Plan
from lamella.planner import Capacity
from lamella.prediction import Activity, load_profile, predict, workload_of
from lamella.prediction.candidates import Candidates, Terms, candidates
from lamella.prediction.choice import Offer
from lamella.prediction.express import by_express, offer_by_express
from lamella.prediction.floor import least_offer, letters_by_layer
from lamella.prediction.planning import activity_of, offered, predicted, taken
from lamella.strategies import NEEDS_CUT
from model_prep.readers import open_source
from model_prep.writer import write_model

AMPLE = Capacity(slots=32, concurrency=16, memory_sizes_mb=(1024, 1769, 3008))
LAYERS = 12
BOOK, PROFILE = load_book(), load_profile()
TERMS = Terms(Activity.all_alive(LAYERS), PROFILE, BOOK)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Directory:
    out = tmp_path_factory.mktemp("model") / "m"
    write_model(open_source(f"alive:1024x{LAYERS}"), out, workers=[2, 8])
    return Directory(out)


@pytest.fixture(scope="module")
def manifest(model: Directory) -> Manifest:
    return read_manifest(model)


def ask(
    model: Directory,
    manifest: Manifest,
    samples: int = 2000,
    terms: Terms = TERMS,
    capacity: Capacity = AMPLE,
    **fields: Any,
) -> Candidates:
    request = RunRequest.model_validate({"model": "s3://b/m/", "input": "s3://b/x.npy"} | fields)
    return offered(request, manifest, samples, lambda p: read_cut(model, manifest, p), capacity, terms)


@pytest.mark.parametrize("samples", [1, 2000, 60_000])
def test_what_is_left_out_would_not_be_chosen(model: Directory, manifest: Manifest, samples: int) -> None:
    few, every = (ask(model, manifest, samples, replace(TERMS, thorough=is_all)) for is_all in (False, True))
    assert [each.plan for each in few.front] == [each.plan for each in every.front]
    assert few.choose().plan == every.choose().plan
    assert {each.plan for each in few.all} <= {each.plan for each in every.all}


@pytest.mark.parametrize("samples", [1, 2000])
def test_of_a_small_batch_many_plans_are_so_slow_that_a_bound_says_so(
    model: Directory, manifest: Manifest, samples: int
) -> None:
    few, every = (ask(model, manifest, samples, replace(TERMS, thorough=is_all)) for is_all in (False, True))
    assert len(every.all) > len(few.all)


@pytest.mark.parametrize(
    "plan",
    [
        Plan("serial", "none", 1, 1024, 2000),
        Plan("samples", "none", 8, 3008, 2000),
        Plan("pipeline", "sqs", 4, 1769, 2000, 4),
        Plan("rows", "sns", 8, 1769, 2000),
        Plan("rows", "s3", 2, 1024, 2000, 2),
        Plan("rows", "sqs", 8, 1024, 1),
        Plan("hybrid", "sqs", 8, 3008, 2000, 2, 4),
    ],
)
def test_no_plan_takes_less_than_its_floor(model: Directory, manifest: Manifest, plan: Plan) -> None:
    cut: Cut | None = read_cut(model, manifest, plan.row_workers) if plan.strategy in NEEDS_CUT else None
    prediction = predict(workload_of(manifest, cut, plan, TERMS.activity), PROFILE, BOOK)
    letters = letters_by_layer(plan, cut, LAYERS)
    least = least_offer(plan, manifest, letters, TERMS.activity, PROFILE, BOOK)
    assert 0.5 * prediction.seconds.total < least.seconds <= prediction.seconds.total
    assert 0 < least.usd <= prediction.usd["total"]


def test_workers_that_do_not_fit_are_dropped(model: Directory, manifest: Manifest) -> None:
    samples = 200_000
    found = ask(model, manifest, samples)
    assert all(each.workload.need_bytes <= each.plan.memory_mb << 20 for each in found.all)
    assert min(each.plan.workers for each in found.all) > 1
    with pytest.raises(PlanError, match=r"a worker would need .*parameter LargeWorkerMemory"):
        ask(model, manifest, samples, strategy="serial")


def test_groups_are_as_large_as_their_workers_memory_asks(model: Directory, manifest: Manifest) -> None:
    """Of a model that says it has many times the weights that it has; nobody reads them."""

    def row_workers(times: int) -> set[int]:
        def cut_for(workers: int) -> Cut:
            cut = read_cut(model, manifest, workers)
            return replace(cut, entry_bounds=cut.entry_bounds * times)

        asked = {"model": "s3://b/m/", "input": "s3://b/x.npy", "strategy": "hybrid", "workers": 8}
        terms = replace(TERMS, thorough=True, timeout_s=float("inf"))
        found = offered(RunRequest.model_validate(asked), manifest, 100, cut_for, AMPLE, terms)
        return {each.plan.row_workers for each in found.all}

    assert row_workers(1) == {2, 4, 8}
    assert row_workers(5_000) == {4, 8}
    assert row_workers(10_000) == {8}


def test_plans_whose_workers_would_be_ended_are_dropped(model: Directory, manifest: Manifest) -> None:
    samples = 60_000
    all_of_them = ask(model, manifest, samples, replace(TERMS, thorough=True))
    bound = sorted(each.prediction.seconds.worker for each in all_of_them.all)[10]
    found = ask(model, manifest, samples, replace(TERMS, timeout_s=bound))
    assert max(each.prediction.seconds.worker for each in found.all) <= bound
    # Where all would be, one is run all the same: predictions may be wrong.
    assert ask(model, manifest, samples, replace(TERMS, timeout_s=0.001)).front


def test_memory_that_is_asked_for_is_taken(model: Directory, manifest: Manifest) -> None:
    assert {each.plan.memory_mb for each in ask(model, manifest, memory_mb=1769).all} == {1769}
    assert ask(model, manifest, 10**7, strategy="serial", memory_mb=1024).choose().plan.memory_mb == 1024


def test_a_deadline_and_a_budget(model: Directory, manifest: Manifest) -> None:
    found = ask(model, manifest, 60_000)
    fast, cheap = found.front[0], found.front[-1]
    assert found.choose(deadline_s=fast.offer.seconds).plan == fast.plan
    assert found.choose(budget_usd=cheap.offer.usd).plan == cheap.plan
    with pytest.raises(
        PlanError, match=r"^no plan keeps to 0.1 s and \$1e-06: the fastest is .* the cheapest"
    ):
        found.choose(0.1, 1e-6)


def test_what_may_cost_too_much_is_refused(model: Directory, manifest: Manifest) -> None:
    found = ask(model, manifest, 60_000)
    request = RunRequest(model="s3://b/m/", input="s3://b/x.npy")
    candidate = taken(found, request)
    least = found.front[-1].offer.usd
    with pytest.raises(PlanError, match=r"more than the \$1e-06 .* run fewer samples .*parameter MaxRunCost"):
        taken(found, request, 1e-6)
    assert taken(found, request, candidate.offer.usd).plan == candidate.plan
    fastest = RunRequest(model="s3://b/m/", input="s3://b/x.npy", deadline_s=found.front[0].offer.seconds)
    with pytest.raises(PlanError, match="ask for a budget_usd of"):
        taken(found, fastest, least)


def test_the_neighbours_on_the_front_are_told(model: Directory, manifest: Manifest) -> None:
    found = ask(model, manifest, 60_000)
    assert len(found.front) > 2
    told = predicted(found, found.front[1])
    assert told.faster is not None
    assert told.cheaper is not None
    assert told.faster.seconds < told.seconds < told.cheaper.seconds
    assert told.cheaper.usd < told.usd["total"] < told.faster.usd
    assert predicted(found, found.front[0]).faster is None


def test_s3_express_is_faster_and_dearer_by_bytes(model: Directory, manifest: Manifest) -> None:
    found = ask(model, manifest, terms=replace(TERMS, thorough=True))
    over = [each for each in found.all if each.plan.channel == "s3"]
    assert over
    for each in over:
        assert offer_by_express(each, TERMS).seconds < each.offer.seconds
    alone = ask(model, manifest, terms=TERMS, strategy="rows", workers=8, channel="s3", micro_batches=1)
    told = by_express(alone, TERMS)
    assert told is not None
    assert told.is_taken == (
        told.offer.usd < told.candidate.offer.usd or told.offer.seconds * 2 < alone.front[0].offer.seconds
    )
    assert by_express(ask(model, manifest, strategy="serial"), TERMS) is None


def test_a_batch_s_density_is_known() -> None:
    activity = activity_of(LAYERS, 10, 1024, 2048)
    assert activity.input_density == 0.2
    assert activity.live == (1.0,) * (LAYERS + 1)


def test_plans_of_a_deeper_cut_are_bounded(model: Directory, manifest: Manifest) -> None:
    plan = Plan("rows", "sqs", 8, 0, 10)
    found = candidates([plan], manifest, lambda p: read_cut(model, manifest, p), AMPLE, TERMS)
    assert {each.plan.memory_mb for each in found.all} <= {1024, 1769, 3008}
    assert isinstance(found.front[0].offer, Offer)

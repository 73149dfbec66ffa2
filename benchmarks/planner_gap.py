"""What the closed form's choice costs more than that of a brute force over the simulator."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from statistics import median

from lamella.cost import PriceBook, load_book
from lamella.plan import ChannelName, Plan
from lamella.prediction.analytic import Shape, butterfly_halo, rows_workload
from lamella.prediction.choice import Offer, chosen
from lamella.prediction.closed_form import Prediction, predict
from lamella.prediction.profile import Profile, load_profile
from lamella.prediction.simulator import simulate
from lamella.prediction.workload import Activity, Workload

MEMORIES_MB = (1024, 1769, 3008)
CHANNELS: tuple[ChannelName, ...] = ("sns", "sqs", "s3")
WORKERS, MICRO_BATCHES = (2, 8, 32), (1, 2)
SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Case:
    """A network, a batch, and how it is to be run: by a deadline, or for so much, or neither."""

    name: str
    shape: Shape
    samples: int
    activity: Activity
    deadline_s: float | None = None
    budget_usd: float | None = None


def cases() -> list[Case]:
    """Those that pull towards different plans: by starts, by computing, by reading."""
    small, wide, vast, huge = (Shape(neurons, 120) for neurons in (1024, 16384, 65536, 262144))
    alive = replace(Activity.all_alive(120), input_density=0.2)
    dying = (1.0, *(max(0.034, 0.5**k) for k in range(120)))
    return [
        Case("1024, most samples die", small, 10_000, Activity("most die", dying, 0.1, 0.2)),
        Case("1024, all alive", small, 10_000, alive),
        Case("16384, all alive", wide, 10_000, alive),
        Case("16384, all alive, within 25 s", wide, 10_000, alive, deadline_s=25.0),
        Case("65536, all alive, for $0.015", vast, 10_000, alive, budget_usd=0.015),
        Case("262144, ten samples", huge, 10, alive),
        Case("262144, ten samples, within 28 s", huge, 10, alive, deadline_s=28.0),
    ]


def workloads(case: Case) -> Iterator[Workload]:
    """Every plan of a small set whose workers fit their memory."""
    for plan in _plans(case.samples):
        halo = butterfly_halo(case.shape.neurons, plan.row_workers)
        workload = rows_workload(case.shape, plan, case.activity, halo)
        if workload.need_bytes <= plan.memory_mb << 20:
            yield workload


def gap(case: Case, profile: Profile, book: PriceBook) -> dict[str, object]:
    """One case: the plan that is chosen, the best, and by what it is worse, as the simulator sees both."""
    candidates = list(workloads(case))
    predicted = [_offer(predict(workload, profile, book)) for workload in candidates]
    simulated = [_simulated(workload, profile, book) for workload in candidates]
    ours = chosen(predicted, deadline_s=case.deadline_s, budget_usd=case.budget_usd)
    best = chosen(simulated, deadline_s=case.deadline_s, budget_usd=case.budget_usd)
    if ours is None or best is None:
        raise ValueError(f"{case.name}: no plan keeps to that")
    return {
        "case": case.name,
        "candidates": len(candidates),
        "chosen": _named(candidates[ours].plan),
        "best": _named(candidates[best].plan),
        "gap": _worse(case, simulated, ours, best),
        "prediction_error": median(
            abs(mine.seconds / theirs.seconds - 1) for mine, theirs in zip(predicted, simulated, strict=True)
        ),
    }


def measure() -> list[dict[str, object]]:
    """Every case, under the default profile."""
    profile, book = load_profile(), load_book()
    return [gap(case, profile, book) for case in cases()]


def _worse(case: Case, simulated: Sequence[Offer], ours: int, best: int) -> float:
    """By how much more it costs than the best (or lasts, for a budget), or breaks what was asked."""
    mine, theirs = simulated[ours], simulated[best]
    limit_s = case.deadline_s or 2 * min(offer.seconds for offer in simulated)
    if case.budget_usd is not None:
        return max(0.0, mine.seconds / theirs.seconds - 1, mine.usd / case.budget_usd - 1)
    return max(0.0, mine.usd / theirs.usd - 1, mine.seconds / limit_s - 1)


def _plans(samples: int) -> Iterator[Plan]:
    for memory_mb in MEMORIES_MB:
        yield Plan("serial", "none", 1, memory_mb, samples)
        for workers in WORKERS:
            yield Plan("samples", "none", workers, memory_mb, samples)
        for workers, channel, batches in product(WORKERS, CHANNELS, MICRO_BATCHES):
            yield Plan("rows", channel, workers, memory_mb, samples, batches)


def _simulated(workload: Workload, profile: Profile, book: PriceBook) -> Offer:
    runs = [simulate(workload, profile, book, seed) for seed in SEEDS]
    return Offer(median(run.seconds.total for run in runs), median(run.usd["total"] for run in runs))


def _offer(prediction: Prediction) -> Offer:
    return Offer(prediction.seconds.total, prediction.usd["total"])


def _named(plan: Plan) -> str:
    batches = f", {plan.micro_batches} micro-batches" if plan.micro_batches > 1 else ""
    return f"{plan.strategy} x {plan.workers}, {plan.channel}, {plan.memory_mb} MB{batches}"
